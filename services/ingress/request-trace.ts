import { type Candidate, Operation, Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { TelemetryConfig } from "#libs/config/model.ts";
import type { AttributeValue, SpanEvent, SpanRecord, Tracing } from "#libs/telemetry/index.ts";
import { ATTRIBUTE, EVENT, providerName, SPAN } from "#libs/telemetry/semconv.ts";
import type { Attempt } from "./attempt.ts";
import type { Intake } from "./intake.ts";
import { classWord, outcomeWord } from "./outcome.ts";
import type { RequestSummary } from "./summary.ts";

type Attributes = Record<string, AttributeValue>;

/** Why a trace is kept although the sampler would not have it. */
export function isAlwaysKept(summary: RequestSummary, always: TelemetryConfig["traces"]["always"]): boolean {
  if (always.includes("error") && summary.status >= 500) return true;
  if (always.includes("failover") && summary.attempts.length > 1) return true;
  return always.includes("experiment") && (summary.decision?.experiment ?? "") !== "";
}

/** Makes a request's spans at its end from recorded timings and hands them on; nothing is built for a trace nobody keeps. */
export function traceRequest(summary: RequestSummary, tracing: Tracing, config: TelemetryConfig): void {
  if (!tracing.enabled) return;
  const { trace } = summary.intake;
  if (!trace.sampled && !isAlwaysKept(summary, config.traces.always)) return;
  tracing.emit(trace, spansOf(summary, tracing));
}

/** The spans of a request: root, exactly one decide, one per attempt. */
export function spansOf(summary: RequestSummary, tracing: Pick<Tracing, "spanId">): SpanRecord[] {
  const { intake } = summary;
  const wall = (monotonicMs: number): number => intake.startedAtMs + (monotonicMs - intake.startedMs);
  const spans: SpanRecord[] = [rootSpan(summary, wall), decideSpan(summary, tracing.spanId(), wall)];
  for (const attempt of summary.attempts) spans.push(attemptSpan(attempt, summary, wall));
  return spans;
}

const CHAT = { route: "/v1/chat/completions", operation: "chat" } as const;
const EMBEDDINGS = { route: "/v1/embeddings", operation: "embeddings" } as const;

/** Words of the GenAI conventions for a kind of call. */
function wordsOf(intake: Intake): typeof CHAT | typeof EMBEDDINGS {
  return intake.decide.operation === Operation.EMBEDDINGS ? EMBEDDINGS : CHAT;
}

function rootSpan(summary: RequestSummary, wall: (ms: number) => number): SpanRecord {
  const { intake, decision, error } = summary;
  const { route } = wordsOf(intake);
  const attributes: Attributes = {
    [ATTRIBUTE.httpMethod]: "POST",
    [ATTRIBUTE.httpRoute]: route,
    [ATTRIBUTE.urlPath]: route,
    [ATTRIBUTE.httpStatus]: summary.status,
    [ATTRIBUTE.requestModel]: intake.decide.model,
    [ATTRIBUTE.requestId]: intake.requestId,
    [ATTRIBUTE.tenant]: intake.decide.tenant,
    [ATTRIBUTE.attempts]: summary.attempts.length,
    [ATTRIBUTE.costNanoUsd]: Number(summary.costNanoUsd),
  };
  if (decision !== undefined) attributes[ATTRIBUTE.model] = decision.model;
  if (summary.winner !== undefined) attributes[ATTRIBUTE.backend] = summary.winner.backend;
  if (error !== undefined) attributes[ATTRIBUTE.errorType] = error.code;
  return {
    name: SPAN.root("POST", route),
    spanId: intake.rootSpanId,
    parentSpanId: intake.trace.parentSpanId,
    kind: "server",
    startMs: wall(intake.startedMs),
    endMs: wall(summary.endMs),
    attributes,
    events: [],
    ...(error !== undefined && summary.status >= 500 ? { error: error.code } : {}),
  };
}

function decideSpan(summary: RequestSummary, spanId: string, wall: (ms: number) => number): SpanRecord {
  const { intake, decision } = summary;
  const endMs = wall(summary.decideEndMs);
  const attributes: Attributes = {
    [ATTRIBUTE.decisionId]: intake.decide.decisionId,
    [ATTRIBUTE.requestModel]: intake.decide.model,
    [ATTRIBUTE.policyStale]: decision?.stale ?? false,
  };
  const events: SpanEvent[] = [];
  if (decision !== undefined) {
    attributes[ATTRIBUTE.model] = decision.model;
    attributes[ATTRIBUTE.requestClass] = classWord(decision.requestClass);
    attributes[ATTRIBUTE.configVersion] = decision.configVersion;
    attributes[ATTRIBUTE.priceVersion] = decision.priceVersion;
    attributes[ATTRIBUTE.engine] = decision.engine;
    attributes[ATTRIBUTE.queueMs] = decision.queueMs;
    attributes[ATTRIBUTE.decideMs] = decision.decideMs;
    if (decision.experiment !== "") {
      attributes[ATTRIBUTE.experiment] = decision.experiment;
      attributes[ATTRIBUTE.arm] = decision.arm;
    }
    if (decision.result.case === "allow") {
      const { candidates } = decision.result.value;
      attributes[ATTRIBUTE.backend] = candidates[0]?.backend ?? "";
      for (const candidate of candidates) events.push(candidateEvent(candidate, endMs));
    } else if (decision.result.case === "deny") attributes[ATTRIBUTE.denyReason] = decision.result.value.reason;
    for (const candidate of decision.excluded) events.push(candidateEvent(candidate, endMs));
  }
  for (const again of summary.redecisions) {
    events.push({ name: EVENT.redecide, atMs: wall(again.atMs), attributes: { [ATTRIBUTE.excluded]: again.exclude } });
  }
  return {
    name: SPAN.decide,
    spanId,
    parentSpanId: intake.rootSpanId,
    kind: "internal",
    startMs: wall(summary.decideStartMs),
    endMs,
    attributes,
    events,
  };
}

function candidateEvent(candidate: Candidate, atMs: number): SpanEvent {
  const attributes: Attributes = {
    [ATTRIBUTE.backend]: candidate.backend,
    [ATTRIBUTE.score]: candidate.score,
    [ATTRIBUTE.predictedTtftMs]: candidate.predictedTtftMs,
    [ATTRIBUTE.predictedTpotMs]: candidate.predictedTpotMs,
    [ATTRIBUTE.candidateCost]: Number(candidate.costNanoUsd),
    [ATTRIBUTE.candidateQueue]: candidate.queue,
    [ATTRIBUTE.candidateInFlight]: candidate.inFlight,
  };
  if (candidate.excluded !== undefined) {
    attributes[ATTRIBUTE.excluded] = candidate.excluded.requirement;
    attributes[ATTRIBUTE.excludedDetail] = candidate.excluded.detail;
  }
  return { name: EVENT.candidate, atMs, attributes };
}

function attemptSpan(attempt: Attempt, summary: RequestSummary, wall: (ms: number) => number): SpanRecord {
  const { intake, candidate, result, settlement } = attempt;
  const { operation } = wordsOf(intake);
  const attributes: Attributes = {
    [ATTRIBUTE.operation]: operation,
    [ATTRIBUTE.provider]: providerName(candidate.provider),
    [ATTRIBUTE.requestModel]: candidate.upstreamModel || intake.decide.model,
    [ATTRIBUTE.requestStream]: intake.stream,
    [ATTRIBUTE.backend]: candidate.backend,
    [ATTRIBUTE.attemptId]: attempt.attemptId,
    [ATTRIBUTE.attempt]: attempt.number,
    [ATTRIBUTE.hedge]: attempt.hedge,
    [ATTRIBUTE.outcome]: outcomeWord(result?.outcome ?? Outcome.VOID),
  };
  const replica = attempt.handle?.replica ?? "";
  if (replica !== "") attributes[ATTRIBUTE.replica] = replica;
  if (intake.decide.maxOutputTokens > 0) attributes[ATTRIBUTE.requestMaxTokens] = intake.decide.maxOutputTokens;
  if (attempt.ttftMs > 0) attributes[ATTRIBUTE.timeToFirstChunk] = attempt.ttftMs / 1000;
  if (result !== undefined) {
    if (result.upstreamModel !== "") attributes[ATTRIBUTE.responseModel] = result.upstreamModel;
    if (result.responseId !== "") attributes[ATTRIBUTE.responseId] = result.responseId;
    if (result.finishReason !== "") attributes[ATTRIBUTE.finishReasons] = [result.finishReason];
    if (result.error !== undefined) attributes[ATTRIBUTE.errorType] = result.error.reason;
  }
  if (settlement?.posted) {
    const { usage } = settlement;
    attributes[ATTRIBUTE.inputTokens] = usage.inputTokens + usage.cacheReadTokens + usage.cacheWriteTokens + usage.cacheWrite1hTokens;
    attributes[ATTRIBUTE.outputTokens] = usage.outputTokens;
    attributes[ATTRIBUTE.cacheReadTokens] = usage.cacheReadTokens;
    attributes[ATTRIBUTE.cacheWriteTokens] = usage.cacheWriteTokens + usage.cacheWrite1hTokens;
    attributes[ATTRIBUTE.reasoningTokens] = usage.reasoningTokens;
    attributes[ATTRIBUTE.costNanoUsd] = Number(settlement.costNanoUsd);
    attributes[ATTRIBUTE.purpose] = settlement.purpose;
  }
  return {
    name: SPAN.attempt(operation, candidate.upstreamModel || intake.decide.model),
    spanId: attempt.spanId,
    parentSpanId: intake.rootSpanId,
    kind: "client",
    startMs: wall(attempt.startedMs),
    endMs: wall(attempt.endedMs || summary.endMs),
    attributes,
    events: [],
    ...(result !== undefined && result.outcome === Outcome.FAILED ? { error: result.error?.reason ?? "failed" } : {}),
  };
}
