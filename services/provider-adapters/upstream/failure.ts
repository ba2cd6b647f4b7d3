import { isTrustFailure } from "./trust.ts";
import type { AttemptReason } from "../codec.ts";

/** Why a call brought no (whole) answer. */
export interface UpstreamFailure {
  readonly reason: AttemptReason;
  /** For logs: what happened, without addresses or credentials. */
  readonly message: string;
  /**
   * No byte of the request can have been processed: nothing was sent, or it went into a kept-alive connection that the other side had
   * given up and that brought not one byte of an answer.
   */
  readonly untouched: boolean;
}

/** What is known of the call when it fails. */
export interface CallProgress {
  /** The request was given to a connection. */
  readonly sent: boolean;
  /** A byte of the answer arrived. */
  readonly answered: boolean;
}

/** Error of a socket that had carried an answer before; set by the connector. */
export const REUSED = Symbol("signalbox.reused-socket");

interface Fault extends Error {
  readonly code?: string;
  readonly socket?: { readonly bytesRead?: number } | null;
  readonly [REUSED]?: boolean;
}

/** Faults of the answer itself rather than of the way to it. */
const PROTOCOL_CODES: ReadonlySet<string> = new Set([
  "UND_ERR_HEADERS_OVERFLOW",
  "UND_ERR_RES_CONTENT_LENGTH_MISMATCH",
  "UND_ERR_RES_EXCEEDED_MAX_SIZE",
]);

/** An undici or socket error in our words. */
export function failureOf(error: Error, progress: CallProgress): UpstreamFailure {
  const fault = error as Fault;
  const code = fault.code ?? "";
  if (PROTOCOL_CODES.has(code) || code.startsWith("HPE_") || error.name === "HTTPParserError") {
    return { reason: "UPSTREAM_PROTOCOL", message: `The provider's answer is malformed (${code || error.name}).`, untouched: false };
  }
  if (code === "UND_ERR_CONNECT_TIMEOUT" || code === "ETIMEDOUT") {
    return { reason: "UPSTREAM_TIMEOUT", message: "The provider did not accept a connection in time.", untouched: !progress.sent };
  }
  if (!progress.sent) {
    const what = isTrustFailure(code) ? "The provider's certificate was refused" : "The provider could not be reached";
    return { reason: "UPSTREAM_UNAVAILABLE", message: `${what} (${code || error.name}).`, untouched: true };
  }
  const reused = fault[REUSED] === true || (fault.socket?.bytesRead ?? 0) > 0;
  return {
    reason: "UPSTREAM_UNAVAILABLE",
    message: `The connection to the provider broke (${code || error.name}).`,
    untouched: reused && !progress.answered,
  };
}
