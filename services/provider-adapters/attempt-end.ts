import type { AttemptEnd, AttemptError, Usage } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { Outcome, type RateLimitState } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { seenTokens } from "#libs/money/index.ts";
import type { CancelReason } from "#libs/peers/index.ts";
import { type AnswerFacts, attemptError, type AttemptReason, usageOf } from "./codec.ts";

const NO_BYTES = new Uint8Array(0);

/** Facts of an attempt that brought no answer. */
export const NO_ANSWER: AnswerFacts = {
  usage: undefined,
  finishReason: "",
  upstreamModel: "",
  responseId: "",
  contentBytes: 0,
  contentEvents: 0,
};

/** What the attempt itself measured, beside the answer's facts. */
export interface AttemptTimes {
  readonly ttftMs: number;
  readonly durationMs: number;
  readonly headersMs: number;
  readonly contentSeen: boolean;
  readonly dispatched: boolean;
  readonly warnings: readonly string[];
  readonly rateLimit: RateLimitState | undefined;
}

/** How it ended. */
export interface Ending {
  readonly outcome: Outcome;
  readonly error?: AttemptError | undefined;
  readonly usageEvent?: Uint8Array | undefined;
  readonly garbage?: boolean;
}

/**
 * The end as the consumer gets it. Usage counts as stated only when it is final: an answer cut short may have carried what was
 * counted until then (Anthropic's first event does), so its output is estimated.
 */
export function attemptEnd(ending: Ending, facts: AnswerFacts, times: AttemptTimes): AttemptEnd {
  const isFinal = facts.usage !== undefined && (ending.outcome === Outcome.OK || facts.finishReason !== "");
  const end: AttemptEnd = {
    $typeName: "signalbox.adapter.v1.AttemptEnd",
    outcome: ending.outcome,
    usage: isFinal ? facts.usage! : estimatedUsage(facts),
    usageKnown: isFinal,
    finishReason: facts.finishReason,
    upstreamModel: facts.upstreamModel,
    responseId: facts.responseId,
    ttftMs: times.ttftMs,
    durationMs: times.durationMs,
    headersMs: times.headersMs,
    usageEvent: ending.usageEvent ?? NO_BYTES,
    warnings: times.warnings as string[],
    contentSeen: times.contentSeen,
    contentBytes: facts.contentBytes,
    contentEvents: facts.contentEvents,
    garbage: ending.garbage ?? false,
    dispatched: times.dispatched,
  };
  if (ending.error !== undefined) end.error = ending.error;
  if (times.rateLimit !== undefined) end.rateLimit = times.rateLimit;
  return end;
}

/** Output by what arrived, where that is more than what was stated so far. Input as far as it was stated, else it is the ingress's to estimate. */
function estimatedUsage(facts: AnswerFacts): Usage {
  const stated = facts.usage?.outputTokens ?? 0;
  const outputTokens = Math.max(stated, seenTokens(facts.contentEvents, facts.contentBytes));
  return facts.usage ? { ...facts.usage, outputTokens } : usageOf({ outputTokens });
}

/** How an attempt ends that its owner gave up. */
export function cancelledEnding(reason: CancelReason): Ending {
  switch (reason) {
    case "canceled":
      return { outcome: Outcome.CANCELED, error: attemptError("CANCELED", "The client went away.") };
    case "hedge_lost":
      return { outcome: Outcome.HEDGE_LOST, error: attemptError("CANCELED", "Another attempt was faster.") };
    case "deadline":
      return { outcome: Outcome.DEADLINE, error: attemptError("DEADLINE_EXCEEDED", "The deadline passed.") };
  }
}

/** Why an attempt could not even begin: the caller's request, or a credential that cannot be read. Nothing has been sent. */
export function beginError(error: unknown): AttemptError {
  if (!(error instanceof SignalboxError)) return attemptError("INTERNAL", "The request could not be sent.", { untouched: true });
  const { param = "", code, type } = error;
  const reason: AttemptReason =
    error.reason === "REQUEST_MALFORMED" || error.reason === "FEATURE_UNSUPPORTED" ? error.reason : "UPSTREAM_UNAUTHORIZED";
  return attemptError(reason, error.message, { param, code, type, untouched: true });
}
