import type { Candidate } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { type Reason, SignalboxError } from "#libs/errors/index.ts";
import { FIRST_FAILOVER_COST, RETRY_COST } from "#libs/resilience/index.ts";
import type { Failure } from "./failures.ts";
import { ATTEMPT_WORTH_MS, BACKOFF_BASE_MS, BACKOFF_MAX_MS, BUSY_PAUSE_MAX_MS, BUSY_PAUSE_MS, REDECIDE_MAX, SKIPS_MAX } from "./limits.ts";

/** Where a request stands when an attempt failed. */
export interface FailoverState {
  /** Attempts made, BUSY ones not counted. */
  readonly attempts: number;
  readonly attemptsMax: number;
  /** Until the deadline, ms; Infinity = none. */
  readonly remainingMs: number;
  /** Candidates not tried yet, best first. */
  readonly remaining: readonly Candidate[];
  /** Times the engine was asked again so far. */
  readonly redecisions: number;
  /** Backends found busy or unserved so far. */
  readonly skips: number;
  /** Whether the engine was asked again and had nobody else. */
  readonly spent: boolean;
  /** Context window of a backend, tokens; 0 = unknown. */
  readonly contextOf: (backend: string) => number;
  /** Uniform in [0, 1), for the back-off's jitter. */
  readonly chance: number;
  /** Longest this request may wait for a rate limit to lift, ms. */
  readonly rateWaitMs: number;
}

/** What to do next. `cost` is what the retry budget must give for it. */
export type NextStep =
  | { readonly kind: "give_up"; readonly error: SignalboxError }
  | { readonly kind: "try"; readonly candidate: Candidate; readonly cost: number }
  | { readonly kind: "redecide"; readonly cost: number }
  | { readonly kind: "again"; readonly afterMs: number; readonly cost: number }
  /** As `again`, for a rate limit to lift; `error` where there is no place to wait. */
  | { readonly kind: "wait"; readonly afterMs: number; readonly cost: number; readonly error: SignalboxError };

/** Failures after which the same backend may be asked once more when there is no other (routing, 1.5). */
const REPEATABLE: readonly Reason[] = ["UPSTREAM_UNAVAILABLE", "UPSTREAM_TIMEOUT"];

/** Chooses the next step after a failure before the first content byte. Pure: the whole failover policy is in here. */
export function nextStep(failure: Failure, state: FailoverState): NextStep {
  const { error } = failure;
  if (state.remainingMs < ATTEMPT_WORTH_MS) {
    return { kind: "give_up", error: new SignalboxError("DEADLINE_EXCEEDED", "The deadline passed before any backend answered.") };
  }
  if (failure.busy) return afterBusy(failure, state);
  if (failure.contextLength) return toLargerContext(failure, state);
  // A backend that leads back to us is no use to anybody, but another one may be.
  const mayMove = error.row.failover || error.reason === "LOOP";
  if (!mayMove || state.attempts >= state.attemptsMax) return { kind: "give_up", error: lastWord(failure) };
  const cost = costOfRetry(failure, state);
  const candidate = state.remaining[0];
  if (candidate !== undefined) return { kind: "try", candidate, cost };
  if (!state.spent && state.redecisions < REDECIDE_MAX) return { kind: "redecide", cost };
  const waitMs = rateWait(error, state);
  if (waitMs !== undefined) return { kind: "wait", afterMs: waitMs, cost: RETRY_COST, error };
  if (!REPEATABLE.includes(error.reason)) return { kind: "give_up", error: lastWord(failure) };
  const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** Math.max(0, state.attempts - 1));
  const afterMs = Math.ceil(ceiling * state.chance);
  if (afterMs + ATTEMPT_WORTH_MS > state.remainingMs) return { kind: "give_up", error };
  return { kind: "again", afterMs, cost: RETRY_COST };
}

/**
 * How long to wait for a provider's rate limit to lift, ms: as long as it says, where class and deadline allow that much (routing, 1.5).
 * Undefined = the error is no rate limit, says no time, or one that is too far away.
 */
export function rateWait(
  error: SignalboxError,
  { remainingMs, rateWaitMs, chance }: Pick<FailoverState, "remainingMs" | "rateWaitMs" | "chance">,
): number | undefined {
  if (error.reason !== "UPSTREAM_RATE_LIMITED" || error.retryAfterMs === undefined || error.retryAfterMs <= 0) return undefined;
  const afterMs = Math.ceil(error.retryAfterMs + BACKOFF_BASE_MS * chance);
  return error.retryAfterMs <= rateWaitMs && afterMs + ATTEMPT_WORTH_MS <= remainingMs ? afterMs : undefined;
}

/** A request that was the trial of the last backend found nobody available: that is what its caller hears (decision 15). */
function lastWord({ error, trial, backend }: Failure): SignalboxError {
  if (!trial || !error.row.failover || error.reason === "UPSTREAM_RATE_LIMITED") return error;
  const text = `No backend is available: the breaker of '${backend}' was open, and this request, its trial, failed too.`;
  return new SignalboxError("NO_BACKEND", text, { cause: error });
}

/**
 * BUSY is no failure: the next candidate, or another decision, for nothing. Where there is no other backend, the engine that sent us did
 * not know yet how full it is: after a moment it does, and the request waits its turn there.
 */
function afterBusy(failure: Failure, state: FailoverState): NextStep {
  const candidate = state.remaining[0];
  if (state.skips >= SKIPS_MAX) return { kind: "give_up", error: failure.error };
  if (candidate !== undefined) return { kind: "try", candidate, cost: 0 };
  if (!state.spent && state.redecisions < REDECIDE_MAX) return { kind: "redecide", cost: 0 };
  // An adapter that is not there says so with a word of its own.
  if (failure.error.reason === "NO_BACKEND") return { kind: "give_up", error: failure.error };
  const ceiling = Math.min(BUSY_PAUSE_MAX_MS, BUSY_PAUSE_MS * 2 ** Math.max(0, state.skips - 1));
  const afterMs = Math.ceil(ceiling * (0.5 + state.chance / 2));
  if (afterMs + ATTEMPT_WORTH_MS > state.remainingMs) return { kind: "give_up", error: failure.error };
  return { kind: "again", afterMs, cost: 0 };
}

function toLargerContext(failure: Failure, state: FailoverState): NextStep {
  const least = state.contextOf(failure.backend);
  const candidate = state.remaining.find((entry) => state.contextOf(entry.backend) > least);
  if (candidate === undefined || state.attempts >= state.attemptsMax) return { kind: "give_up", error: failure.error };
  return { kind: "try", candidate, cost: FIRST_FAILOVER_COST };
}

/** Decision 17: the first failover to another backend is nearly free, later ones cost; a rate limit that sends us to another provider is load, not failure. */
function costOfRetry(failure: Failure, state: FailoverState): number {
  const next = state.remaining[0];
  if (failure.error.reason === "UPSTREAM_RATE_LIMITED" && next !== undefined && next.provider !== failure.provider) return 0;
  return state.attempts <= 1 ? FIRST_FAILOVER_COST : RETRY_COST;
}
