import type { AttemptCompleted } from "#gen/signalbox/events/v1/events_pb.ts";
import { RecordKind, type AttemptRecord } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { costOf, type PriceIndex } from "#libs/money/index.ts";

/** Outcomes and estimates remembered: some minutes of a busy mesh. */
const REMEMBERED_MAX = 20_000;

/**
 * Adapters publish how each attempt ended. When its ingress died before settling, that is the truth the estimate lacks:
 * whichever of the two arrives second makes a real entry. Live messages only, so this improves estimates and promises nothing.
 */
export class Outcomes {
  readonly #completed = new Map<string, AttemptCompleted>();
  readonly #expired = new Map<string, AttemptRecord>();

  /** An attempt ended at an adapter. Returns the estimate booked for it, if there is one to be replaced. */
  completed(attempt: AttemptCompleted): AttemptRecord | undefined {
    if (attempt.end?.usageKnown !== true) return undefined;
    remember(this.#completed, attempt.attemptId, attempt);
    const estimate = this.#expired.get(attempt.attemptId);
    this.#expired.delete(attempt.attemptId);
    return estimate;
  }

  /** The real record for an estimate, where its outcome is known; otherwise the estimate, remembered for later. */
  settle(record: AttemptRecord, index: PriceIndex | undefined): AttemptRecord {
    if (record.kind !== RecordKind.EXPIRE) return record;
    const attempt = this.#completed.get(record.attemptId);
    if (attempt && index) return realRecord(record, attempt, index);
    remember(this.#expired, record.attemptId, record);
    return record;
  }
}

/** What really happened, in place of an estimate. */
export function realRecord(estimate: AttemptRecord, attempt: AttemptCompleted, index: PriceIndex): AttemptRecord {
  const end = attempt.end!;
  const usage = end.usage!;
  const cost = costOf(index, estimate.backend, usage, Number(estimate.startedAtUs / 1000n));
  return {
    ...estimate,
    kind: RecordKind.POST,
    outcome: end.outcome,
    reason: end.error?.reason ?? "",
    usage,
    estimated: cost.estimated,
    costNanoUsd: cost.nanoUsd,
    unpriced: cost.unpriced,
    priceGrade: cost.grade,
    priceVersion: cost.priceVersion,
    gpuSeconds: cost.gpuSeconds,
    durationMs: end.durationMs,
    ttftMs: end.ttftMs,
    responseId: end.responseId,
  };
}

function remember<T>(map: Map<string, T>, key: string, value: T): void {
  map.delete(key);
  map.set(key, value);
  if (map.size > REMEMBERED_MAX) for (const oldest of map.keys()) return void map.delete(oldest);
}
