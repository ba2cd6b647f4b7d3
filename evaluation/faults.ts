/**
 * What a backend does with new requests while it is at fault.
 * - error: answers 5xx; its liveness call still works.
 * - down: refuses connections; its liveness call fails.
 * - limited: answers 429 with Retry-After.
 */
export type Fault =
  | { readonly kind: "error"; readonly afterMs: number }
  | { readonly kind: "down"; readonly afterMs: number }
  | { readonly kind: "limited"; readonly afterMs: number; readonly retryAfterMs: number };

/** How an attempt failed, in the words of the attempt's report. */
export interface Failure {
  readonly reason: "UPSTREAM_UNAVAILABLE" | "UPSTREAM_RATE_LIMITED" | "UPSTREAM_TIMEOUT";
  /** 0 = no answer. */
  readonly httpStatus: number;
  readonly retryAfterMs: number;
}

/** Time to an error answer, and to a refused connection, ms. */
const ERROR_MS = 5;
const REFUSED_MS = 1;

/** Every request fails with 500. */
export const ERRORS: Fault = { kind: "error", afterMs: ERROR_MS };

/** Nobody listens. */
export const DOWN: Fault = { kind: "down", afterMs: REFUSED_MS };

/** Every request is refused for load. */
export function limited(retryAfterMs: number): Fault {
  return { kind: "limited", afterMs: ERROR_MS, retryAfterMs };
}

/** The failure that a fault ends in. */
export function failureOf(fault: Fault): Failure {
  switch (fault.kind) {
    case "error":
      return { reason: "UPSTREAM_UNAVAILABLE", httpStatus: 500, retryAfterMs: 0 };
    case "down":
      return { reason: "UPSTREAM_UNAVAILABLE", httpStatus: 0, retryAfterMs: 0 };
    case "limited":
      return { reason: "UPSTREAM_RATE_LIMITED", httpStatus: 429, retryAfterMs: fault.retryAfterMs };
  }
}
