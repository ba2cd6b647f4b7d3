import { fromBinary } from "@bufbuild/protobuf";
import { type AttemptCompleted, AttemptsCompletedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import { RecordKind, type AttemptRecord } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { costOf, type PriceIndex } from "#libs/money/index.ts";

/** Estimates remembered: some minutes of a busy mesh. */
const ESTIMATES_MAX = 20_000;

/** Bytes and messages of outcomes remembered: at some 200 bytes an attempt, those of the last 20,000 or more. */
const MESSAGES_MAX_BYTES = 4 * 1024 * 1024;
const MESSAGES_MAX = 20_000;

/** An estimate and what really happened. */
export interface Correction {
  readonly estimate: AttemptRecord;
  readonly attempt: AttemptCompleted;
}

/**
 * Adapters publish how each attempt ended. When its ingress died before settling, that is the truth the estimate lacks:
 * whichever of the two arrives second makes a real entry. Live messages only, so this improves estimates and promises nothing.
 * Messages are kept as bytes and read only when there is an estimate: all but a few are never looked at.
 */
export class Outcomes {
  #messages: Uint8Array[] = [];
  #bytes = 0;
  /** The messages read, by attempt; until the next one arrives. */
  #read: ReadonlyMap<string, AttemptCompleted> | undefined;
  readonly #expired = new Map<string, AttemptRecord>();

  /** Attempts ended at an adapter (an AttemptsCompleted). Returns the estimates booked for them that are to be replaced. */
  arrived(payload: Uint8Array): readonly Correction[] {
    this.#messages.push(payload);
    this.#bytes += payload.length;
    this.#read = undefined;
    if (this.#bytes > MESSAGES_MAX_BYTES || this.#messages.length > MESSAGES_MAX) this.#forgetOldest();
    if (this.#expired.size === 0) return [];
    const corrections: Correction[] = [];
    for (const attempt of endedIn(payload)) {
      const estimate = this.#expired.get(attempt.attemptId);
      if (estimate && this.#expired.delete(attempt.attemptId)) corrections.push({ estimate, attempt });
    }
    return corrections;
  }

  /** The real record for an estimate, where its outcome is known; otherwise the estimate, remembered for later. */
  settle(record: AttemptRecord, index: PriceIndex | undefined): AttemptRecord {
    if (record.kind !== RecordKind.EXPIRE) return record;
    this.#read ??= new Map(this.#messages.flatMap(endedIn).map((attempt) => [attempt.attemptId, attempt]));
    const attempt = this.#read.get(record.attemptId);
    if (attempt && index) return realRecord(record, attempt, index);
    remember(this.#expired, record.attemptId, record);
    return record;
  }

  #forgetOldest(): void {
    const gone = this.#messages.splice(0, Math.ceil(this.#messages.length / 2));
    for (const payload of gone) this.#bytes -= payload.length;
  }
}

function endedIn(payload: Uint8Array): readonly AttemptCompleted[] {
  return fromBinary(AttemptsCompletedSchema, payload).attempts.filter((attempt) => attempt.end?.usageKnown === true);
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
  if (map.size > ESTIMATES_MAX) for (const oldest of map.keys()) return void map.delete(oldest);
}
