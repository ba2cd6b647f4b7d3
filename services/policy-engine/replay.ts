import type { Candidate } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { DecisionRecord } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import { HOLDER_SHARE, recordedWeights } from "./judge.ts";
import { createTable, pick, type PickWeights, STANDING_WORDS } from "./pick.ts";
import { CLASS_NUMBER, type SchedulingClass } from "./resolve.ts";

/**
 * Picks again from a record alone: terms, targets, standings and seed. Gives the backends in order; equal to the recorded order
 * unless the record was tampered with or the rule changed. `configured` is the model's candidates in configuration order, which is
 * what ties go by.
 */
export function replay(record: DecisionRecord, configured: readonly string[], explore: boolean): readonly string[] {
  const { decision } = record;
  if (decision?.result.case !== "allow") return [];
  const { candidates } = decision.result.value;
  const weights = recordedWeights(classOf(decision.requestClass), decision.ttftTargetMs, decision.tpotTargetMs);
  return pickAgain(record, candidates, configured, weights, explore);
}

/** Picks among these candidates of a record, in configuration order, held against these targets. */
export function pickAgain(
  record: DecisionRecord,
  candidates: readonly Candidate[],
  configured: readonly string[],
  weights: PickWeights,
  explore: boolean,
): readonly string[] {
  const byName = new Map(candidates.map((candidate) => [candidate.backend, candidate]));
  const names = configured.filter((name) => byName.has(name));
  const table = createTable(names.length);
  table.count = names.length;
  let mostSaved = HOLDER_SHARE * (record.request?.inputTokens ?? 0);
  for (const [at, name] of names.entries()) {
    const candidate = byName.get(name)!;
    table.standing[at] = STANDING_WORDS.indexOf(candidate.standing as (typeof STANDING_WORDS)[number]);
    table.gateMs[at] = candidate.terms["gate"] ?? candidate.predictedTtftMs;
    table.tpotMs[at] = candidate.predictedTpotMs;
    table.scoreMs[at] = candidate.score;
    table.marginalNano[at] = Number(candidate.marginalNanoUsd);
    table.idle[at] = candidate.terms["idle"] ?? 0;
    table.outputTokens = candidate.terms["output"] ?? 0;
    if (candidate.terms["sampled"] === 1) table.sampled = true;
    const saved = candidate.terms["saved"] ?? 0;
    if (table.sampled && saved > 0 && saved >= mostSaved) {
      table.holder = at;
      mostSaved = saved + 1;
    }
  }
  const count = pick(table, weights, record.decision?.seed ?? 0, explore);
  return Array.from(table.order.subarray(0, count), (at) => names[at]!);
}

function classOf(number: number): SchedulingClass {
  for (const [name, value] of Object.entries(CLASS_NUMBER)) if (value === number) return name as SchedulingClass;
  return "standard";
}
