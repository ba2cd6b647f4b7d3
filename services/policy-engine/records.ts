import type { Candidate, Decision } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { DecisionRecord } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import { TERMS } from "./answer.ts";
import type { Evidence } from "./engine.ts";

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

/** Memory the ring may take, bytes: some 5,000 decisions over four candidates. */
const RING_BYTES = 8 * 1024 * 1024;

/** Estimated bytes of a record, and of each candidate in it. */
const RECORD_BYTES = 1_000;
const CANDIDATE_BYTES = 300;

/** Response ids kept with one decision. */
const RESPONSE_IDS_MAX = 8;

/**
 * Decision records in memory: a ring bounded in bytes, the oldest go first. Keeping is an array write; finding, which people do,
 * looks through the ring from the newest back.
 */
export class MemoryRecords implements DecisionRecords {
  readonly #bytesMax: number;
  readonly #ring: (Evidence | undefined)[];
  #oldest = 0;
  #count = 0;
  #bytes = 0;

  constructor(bytesMax = RING_BYTES) {
    this.#bytesMax = bytesMax;
    this.#ring = Array.from({ length: Math.max(2, Math.ceil(bytesMax / RECORD_BYTES)) }, () => undefined);
  }

  keep(evidence: Evidence): void {
    this.#bytes += bytesOf(evidence);
    while (this.#count === this.#ring.length || (this.#bytes > this.#bytesMax && this.#count > 0)) this.#forgetOldest();
    this.#ring[(this.#oldest + this.#count) % this.#ring.length] = evidence;
    this.#count += 1;
  }

  link(evidence: Evidence, responseId: string): void {
    if (evidence.responseIds.length < RESPONSE_IDS_MAX) evidence.responseIds = [...evidence.responseIds, responseId];
  }

  find(id: string): Promise<DecisionRecord | undefined> {
    for (let back = this.#count - 1; back >= 0; back--) {
      const evidence = this.#at(back);
      const { request } = evidence;
      if (request.decisionId === id || request.requestId === id || evidence.responseIds.includes(id)) {
        return Promise.resolve(recordOf(evidence));
      }
    }
    return Promise.resolve(undefined);
  }

  last(): Promise<DecisionRecord | undefined> {
    return Promise.resolve(this.#count === 0 ? undefined : recordOf(this.#at(this.#count - 1)));
  }

  #at(place: number): Evidence {
    return this.#ring[(this.#oldest + place) % this.#ring.length]!;
  }

  #forgetOldest(): void {
    this.#bytes -= bytesOf(this.#at(0));
    this.#ring[this.#oldest] = undefined;
    this.#oldest = (this.#oldest + 1) % this.#ring.length;
    this.#count -= 1;
  }
}

function bytesOf(evidence: Evidence): number {
  const others = evidence.others === undefined ? 0 : evidence.others.candidates.length + evidence.others.excluded.length;
  return RECORD_BYTES + (evidence.excluded.length + evidence.terms.length / TERMS.length + others) * CANDIDATE_BYTES;
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
    responseIds: [...evidence.responseIds],
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
