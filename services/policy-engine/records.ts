import type { Candidate, Decision } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { DecisionRecord } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import { TERMS } from "./answer.ts";
import { writeEvidence, writeLink } from "./decision-writer.ts";
import type { Evidence } from "./engine.ts";
import { latestIn, RecordBlocks, searchBlocks } from "./record-blocks.ts";

/** Where decision records are kept and found again. */
export interface DecisionRecords {
  /** Keeps a decision's evidence. Never throws, never blocks. */
  keep(evidence: Evidence): void;
  /** A response id became known for a decision kept before. */
  link(evidence: Evidence, responseId: string): void;
  /** By decision id, request id (the latest) or response id; undefined = gone or never was. */
  find(id: string): Promise<DecisionRecord | undefined>;
  /** The latest. */
  last(): Promise<DecisionRecord | undefined>;
}

/** Memory the latest records may take, bytes: some 8,000 decisions over two candidates. */
export const RING_BYTES = 8 * 1024 * 1024;

/**
 * Decision records in memory: a ring bounded in bytes, the oldest go first. What a decision was made from is encoded at once:
 * kept as objects, thousands of them would outlive every quick collection and be copied by each.
 */
export class MemoryRecords implements DecisionRecords {
  readonly #blocks: RecordBlocks;

  constructor(bytesMax = RING_BYTES) {
    this.#blocks = new RecordBlocks(bytesMax);
  }

  keep(evidence: Evidence): void {
    this.#blocks.add(writeEvidence(evidence));
  }

  link({ request }: Evidence, responseId: string): void {
    this.#blocks.add(writeLink(request, responseId));
  }

  find(id: string): Promise<DecisionRecord | undefined> {
    return searchBlocks(() => this.#blocks.newestFirst(), id);
  }

  last(): Promise<DecisionRecord | undefined> {
    return latestIn(() => this.#blocks.newestFirst());
  }
}

/** The record of a decision: every candidate with its terms, the excluded ones with their reasons. */
export function recordOf(evidence: Evidence): DecisionRecord {
  const { decision, terms } = evidence;
  const full: Decision = { ...decision, excluded: [...evidence.excluded] };
  if (decision.result.case === "allow") {
    const candidates = decision.result.value.candidates.map((candidate, place) => withTerms(candidate, terms, place));
    full.result = { case: "allow", value: { ...decision.result.value, candidates } };
  }
  return {
    $typeName: "signalbox.policy.v1.DecisionRecord",
    request: evidence.request,
    decision: full,
    decidedAtMs: evidence.decidedAtMs,
    responseIds: [],
    controlRevision: evidence.made.control?.revision ?? 0n,
    others: othersOf(evidence.others),
  };
}

function othersOf(others: Evidence["others"]): Candidate[] {
  if (others === undefined) return [];
  return [...others.candidates.map((candidate, place) => withTerms(candidate, others.terms, place)), ...others.excluded];
}

function withTerms(candidate: Candidate, values: readonly number[], place: number): Candidate {
  const terms: Record<string, number> = {};
  for (let at = 0; at < TERMS.length; at++) terms[TERMS[at]!] = values[place * TERMS.length + at] ?? 0;
  return { ...candidate, terms };
}
