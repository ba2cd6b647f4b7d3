import { type AttemptOpen, Dialect } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { type Candidate, Operation } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { ResilienceConfig } from "#libs/config/model.ts";
import type { Attempt } from "./attempt.ts";
import type { Intake } from "./intake.ts";

/** Time one output token may take where no prediction exists, ms: a slow CPU engine. */
const TOKEN_TIME_DEFAULT_MS = 50;

/** Output tokens allowed for in a whole answer without a limit. */
const ANSWER_TOKENS_DEFAULT = 4_096;

/** Largest value of the wire's uint32 durations. */
const UINT32_MAX = 0xffff_ffff;

/**
 * Ceiling for the first content byte, ms. The engine's own where it gives one; else the configured one, for a whole answer
 * plus the time its generation may take (decision 18).
 */
export function firstTokenTimeoutMs(candidate: Candidate, intake: Intake, timeouts: ResilienceConfig["timeouts"]): number {
  if (candidate.firstTokenTimeoutMs > 0) return candidate.firstTokenTimeoutMs;
  if (intake.stream || intake.decide.operation === Operation.EMBEDDINGS) return timeouts.firstTokenMs;
  const tokens = intake.decide.maxOutputTokens || candidate.maxOutputTokens || ANSWER_TOKENS_DEFAULT;
  return timeouts.firstTokenMs + (candidate.predictedTpotMs || TOKEN_TIME_DEFAULT_MS) * tokens;
}

/** What the adapter is asked to do. `remainingMs` until the deadline, Infinity = none. */
export function attemptOpen(
  attempt: Attempt,
  timeouts: ResilienceConfig["timeouts"],
  traceparent: string,
  remainingMs: number,
): AttemptOpen {
  const { intake, candidate, decision } = attempt;
  const isEmbeddings = intake.decide.operation === Operation.EMBEDDINGS;
  return {
    $typeName: "signalbox.adapter.v1.AttemptOpen",
    attemptId: attempt.attemptId,
    requestId: intake.requestId,
    attempt: attempt.number,
    backend: candidate.backend,
    model: intake.decide.model,
    dialect: isEmbeddings ? Dialect.OPENAI_EMBEDDINGS : Dialect.OPENAI_CHAT,
    body: intake.body,
    fields: intake.fields,
    stream: intake.stream,
    includeUsage: intake.includeUsage,
    deadlineMs: Number.isFinite(remainingMs) ? Math.min(UINT32_MAX, Math.max(1, Math.ceil(remainingMs))) : 0,
    connectTimeoutMs: Math.ceil(timeouts.connectMs),
    firstTokenTimeoutMs: Math.min(UINT32_MAX, Math.ceil(attempt.firstTokenTimeoutMs)),
    idleTimeoutMs: Math.ceil(timeouts.idleStreamMs),
    traceparent,
    requestClass: decision.requestClass,
    enginePriority: candidate.enginePriority,
    enginePrioritySet: candidate.enginePrioritySet,
    maxOutputTokens: isEmbeddings || intake.decide.maxOutputTokens > 0 ? 0 : candidate.maxOutputTokens,
    resumePrefix: attempt.resume?.prefix ?? "",
    resumeTokens: attempt.resume?.tokens ?? 0,
    tracestate: intake.trace.tracestate,
  };
}
