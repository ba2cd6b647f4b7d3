import type { Candidate, Decision } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { DecisionRecord } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import { TERMS } from "./answer.ts";
import type { Evidence } from "./engine.ts";

/** Where decision records are kept and found again. */
export interface DecisionRecords {
  /** Keeps a decision's evidence. Never throws, never blocks. */
  keep(evidence: Evidence): void;
  /** Adds a response id to the record of a decision. */
  link(decisionId: string, responseId: string): void;
  /** By decision id, request id (the latest) or response id; undefined = gone or never was. */
  find(id: string): Promise<DecisionRecord | undefined>;
  /** The latest. */
  last(): Promise<DecisionRecord | undefined>;
}

/** Memory the ring may take, bytes: some 20,000 decisions over four candidates. */
const RING_BYTES = 16 * 1024 * 1024;

/** Estimated bytes of a record, and of each candidate in it. */
const RECORD_BYTES = 500;
const CANDIDATE_BYTES = 240;

/** Response ids kept with one decision. */
const RESPONSE_IDS_MAX = 8;

interface Kept {
  readonly evidence: Evidence;
  readonly bytes: number;
  responseIds: string[] | undefined;
}

/** Decision records in memory: a ring bounded in bytes, the oldest go first. */
export class MemoryRecords implements DecisionRecords {
  readonly #bytesMax: number;
  /** In order of decision. */
  readonly #byDecision = new Map<string, Kept>();
  readonly #byRequest = new Map<string, Kept>();
  readonly #byResponse = new Map<string, Kept>();
  #bytes = 0;
  #last: Kept | undefined;

  constructor(bytesMax = RING_BYTES) {
    this.#bytesMax = bytesMax;
  }

  keep(evidence: Evidence): void {
    const count = evidence.excluded.length + evidence.terms.length / TERMS.length;
    const kept: Kept = { evidence, bytes: RECORD_BYTES + count * CANDIDATE_BYTES, responseIds: undefined };
    const id = evidence.request.decisionId;
    const before = this.#byDecision.get(id);
    if (before !== undefined) this.#forget(id, before);
    this.#byDecision.set(id, kept);
    if (evidence.request.requestId !== "") this.#byRequest.set(evidence.request.requestId, kept);
    this.#bytes += kept.bytes;
    this.#last = kept;
    while (this.#bytes > this.#bytesMax && this.#byDecision.size > 1) {
      const [oldest, oldestKept] = this.#byDecision.entries().next().value!;
      this.#forget(oldest, oldestKept);
    }
  }

  link(decisionId: string, responseId: string): void {
    const kept = this.#byDecision.get(decisionId);
    if (kept === undefined || responseId === "" || (kept.responseIds?.length ?? 0) >= RESPONSE_IDS_MAX) return;
    (kept.responseIds ??= []).push(responseId);
    this.#byResponse.set(responseId, kept);
  }

  find(id: string): Promise<DecisionRecord | undefined> {
    const kept = this.#byDecision.get(id) ?? this.#byRequest.get(id) ?? this.#byResponse.get(id);
    return Promise.resolve(kept && recordOf(kept.evidence, kept.responseIds ?? []));
  }

  last(): Promise<DecisionRecord | undefined> {
    return Promise.resolve(this.#last && recordOf(this.#last.evidence, this.#last.responseIds ?? []));
  }

  #forget(id: string, kept: Kept): void {
    this.#byDecision.delete(id);
    this.#bytes -= kept.bytes;
    const { requestId } = kept.evidence.request;
    if (this.#byRequest.get(requestId) === kept) this.#byRequest.delete(requestId);
    for (const responseId of kept.responseIds ?? []) if (this.#byResponse.get(responseId) === kept) this.#byResponse.delete(responseId);
  }
}

/** The record of a decision: every candidate with its terms, the excluded ones with their reasons. */
export function recordOf(evidence: Evidence, responseIds: readonly string[]): DecisionRecord {
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
    responseIds: [...responseIds],
  };
}

function withTerms(candidate: Candidate, values: Float64Array, place: number): Candidate {
  const terms: Record<string, number> = {};
  for (let at = 0; at < TERMS.length; at++) terms[TERMS[at]!] = values[place * TERMS.length + at] ?? 0;
  return { ...candidate, terms };
}
