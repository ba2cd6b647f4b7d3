import { type Candidate, RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { DecisionRecord } from "#libs/peers/index.ts";

const CLASS_WORDS: Readonly<Record<number, string>> = {
  [RequestClass.SYSTEM]: "system",
  [RequestClass.INTERACTIVE]: "interactive",
  [RequestClass.STANDARD]: "standard",
  [RequestClass.BATCH]: "batch",
};

/** A decision record in the shape of `explain -o json` (product.md, section 6): int64 as strings, ms as numbers. */
export function explainJson(record: DecisionRecord): Record<string, unknown> {
  const { request, decision } = record;
  const allowed = decision?.result.case === "allow" ? decision.result.value.candidates : [];
  const deny = decision?.result.case === "deny" ? decision.result.value : undefined;
  return {
    decision_id: decision?.decisionId ?? request?.decisionId ?? "",
    request_id: request?.requestId ?? "",
    model: decision?.model ?? request?.model ?? "",
    class: CLASS_WORDS[decision?.requestClass ?? 0] ?? "standard",
    chosen: allowed[0]?.backend ?? null,
    config_version: decision?.configVersion ?? "",
    price_version: decision?.priceVersion ?? "",
    decided_at: new Date(record.decidedAtMs).toISOString(),
    queue_ms: decision?.queueMs ?? 0,
    ...(decision?.followedMs ? { followed_ms: decision.followedMs } : {}),
    decide_ms: decision?.decideMs ?? 0,
    ttft_target_ms: decision?.ttftTargetMs || null,
    tpot_target_ms: decision?.tpotTargetMs || null,
    stale: decision?.stale ?? false,
    ...(decision?.shadowExperiment ? { shadow: `${decision.shadowExperiment}=${decision.shadowArm}` } : {}),
    ...(decision?.experiment
      ? { experiment: decision.experiment, arm: decision.arm, experiment_revision: String(decision.experimentRevision) }
      : {}),
    ...(decision && decision.requestChange.length > 0
      ? { request_change: JSON.parse(Buffer.from(decision.requestChange).toString()) as unknown }
      : {}),
    ...(deny ? { denied: { reason: deny.reason, detail: deny.detail, retry_after_ms: deny.retryAfterMs } } : {}),
    candidates: [...allowed, ...(decision?.excluded ?? [])].map(candidateJson),
  };
}

function candidateJson(candidate: Candidate): Record<string, unknown> {
  return {
    backend: candidate.backend,
    predicted_ttft_ms: candidate.predictedTtftMs,
    predicted_tpot_ms: candidate.predictedTpotMs,
    cost_nano_usd: String(candidate.costNanoUsd),
    marginal_nano_usd: String(candidate.marginalNanoUsd),
    queue: candidate.queue,
    in_flight: candidate.inFlight,
    score: candidate.score,
    standing: candidate.standing,
    terms: candidate.terms,
    excluded: candidate.excluded ? { requirement: candidate.excluded.requirement, detail: candidate.excluded.detail } : null,
  };
}
