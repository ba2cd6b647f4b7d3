import type { AttemptEnd } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { type Candidate, type Deny, Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { isReason, type Reason, SignalboxError } from "#libs/errors/index.ts";

/** A failed attempt in the words that matter for what comes next. */
export interface Failure {
  readonly error: SignalboxError;
  readonly backend: string;
  readonly provider: string;
  /** The adapter had no room: costs nothing, counts nowhere. */
  readonly busy: boolean;
  /** A larger context could help. */
  readonly contextLength: boolean;
  /** The attempt was the trial of an open breaker. */
  readonly trial: boolean;
}

/** How a decision calls a candidate whose breaker is open (policy-engine). */
const TRIAL_STANDING = "trial";

/** What a caller may hear when upstreams fail: never the upstream's own text, but for rejections that are the caller's to fix. */
export function failureOf(end: AttemptEnd, candidate: Candidate): Failure {
  const stated = end.error;
  const reason = reasonOf(end);
  const common = { backend: candidate.backend, provider: candidate.provider, trial: candidate.standing === TRIAL_STANDING };
  if (stated && CALLERS_MISTAKES.includes(reason)) {
    const status = stated.httpStatus >= 400 && stated.httpStatus < 500 ? stated.httpStatus : 400;
    const error = new SignalboxError(reason, stated.message || "The provider refused the request.", {
      httpStatus: status,
      ...(stated.code === "" ? {} : { code: stated.code }),
      ...(stated.param === "" ? {} : { param: stated.param }),
      ...(stated.type === "" ? {} : { type: stated.type }),
    });
    return { ...common, error, busy: false, contextLength: stated.contextLength };
  }
  const retryAfterMs = stated?.retryAfterMs ?? 0;
  const text = `The backend '${candidate.backend}' failed: ${FAILURE_TEXTS[reason] ?? "upstream error"}.`;
  const error = new SignalboxError(reason, text, retryAfterMs > 0 ? { retryAfterMs } : {});
  return { ...common, error, busy: stated?.busy ?? false, contextLength: false };
}

/** What another signalbox (or this one) answers when a request comes round again. */
const LOOP_STATUS = 508;

/** What an adapter reports of the request itself: the text is the caller's to read. */
const CALLERS_MISTAKES: readonly Reason[] = ["UPSTREAM_REJECTED", "REQUEST_MALFORMED", "FEATURE_UNSUPPORTED", "NO_CAPABLE_BACKEND"];

const FAILURE_TEXTS: Partial<Record<Reason, string>> = {
  UPSTREAM_UNAVAILABLE: "it is unavailable",
  UPSTREAM_TIMEOUT: "it did not answer in time",
  UPSTREAM_PROTOCOL: "its answer cannot be understood",
  UPSTREAM_UNAUTHORIZED: "it refused the gateway's credential",
  UPSTREAM_RATE_LIMITED: "it is rate limited",
  LOOP: "its address leads back to this gateway",
};

function reasonOf(end: AttemptEnd): Reason {
  if (end.outcome === Outcome.DEADLINE) return "DEADLINE_EXCEEDED";
  const reason = end.error?.reason ?? "";
  if (end.error?.httpStatus === LOOP_STATUS) return "LOOP";
  if (!isReason(reason)) return "UPSTREAM_UNAVAILABLE";
  return reason in FAILURE_TEXTS || CALLERS_MISTAKES.includes(reason) || reason === "DEADLINE_EXCEEDED" ? reason : "UPSTREAM_UNAVAILABLE";
}

/** A denial as the error the caller gets. */
export function denialOf(deny: Deny): SignalboxError {
  const reason = isReason(deny.reason) ? deny.reason : "NO_BACKEND";
  return new SignalboxError(reason, deny.detail || "The request cannot be served at the moment.", {
    ...(deny.param === "" ? {} : { param: deny.param }),
    ...(deny.code === "" ? {} : { code: deny.code }),
    ...(deny.retryAfterMs > 0 ? { retryAfterMs: deny.retryAfterMs } : {}),
  });
}

/** None of the candidates left is served by an adapter; like BUSY it costs nothing. */
export function unserved(candidate: Candidate | undefined): Failure {
  const backend = candidate?.backend ?? "";
  const error = new SignalboxError("NO_BACKEND", `No adapter serves the backend '${backend}' at the moment.`);
  return { error, backend, provider: candidate?.provider ?? "", busy: true, contextLength: false, trial: false };
}

/** An attempt the ingress gave up by itself. */
export function givenUp(reason: "UPSTREAM_TIMEOUT" | "UPSTREAM_PROTOCOL", candidate: Candidate): Failure {
  const { backend, provider, standing } = candidate;
  const text = reason === "UPSTREAM_TIMEOUT" ? "did not answer in time" : "sent an answer that is too large";
  const error = new SignalboxError(reason, `The backend '${backend}' ${text}.`);
  return { error, backend, provider, busy: false, contextLength: false, trial: standing === TRIAL_STANDING };
}

/** A backend that will not continue an answer, for whatever reason, is only one candidate less; nobody hears that it was on trial. */
export function lostCandidate(failure: Failure): Failure {
  if (failure.error.row.failover || failure.error.reason === "DEADLINE_EXCEEDED") return { ...failure, trial: false };
  const error = new SignalboxError("UPSTREAM_PROTOCOL", `The backend '${failure.backend}' did not continue the answer.`);
  return { ...failure, error, contextLength: false, trial: false };
}

/** Why a stream ends after its first content without being complete. */
export function interruption(end: AttemptEnd, candidate: Candidate): SignalboxError {
  return end.outcome === Outcome.DEADLINE
    ? new SignalboxError("DEADLINE_EXCEEDED", "The deadline passed before the answer was complete.")
    : new SignalboxError("STREAM_INTERRUPTED", `The backend '${candidate.backend}' broke off before the answer was complete.`);
}

/** A mistake of ours; the cause is for the log only. */
export function internalError(cause: unknown): SignalboxError {
  return new SignalboxError("INTERNAL", "Something went wrong inside the gateway.", { cause });
}

/** The outbox takes nothing new, or lost an intent: nothing may be sent that cannot be accounted for. */
export function ledgerUnavailable(): SignalboxError {
  return new SignalboxError("NO_BACKEND", "The request cannot be accounted for at the moment.", { code: "ledger_unavailable" });
}
