import { hash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { EntrySchema, RecordKind, type AttemptRecord, type Entry } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { encodeAttemptRecord } from "#libs/outbox/index.ts";
import { RECORD } from "./record-batch.ts";

/** Which of an attempt's entries a row is. At most one of each: the store's unique key is (attempt, part). */
export const PART = {
  /** The first booking. */
  original: 0,
  /** Takes an estimate back. */
  reversal: 1,
  /** The real amount after a reversal. */
  replacement: 2,
} as const;

/** One row of the ledger, as the stores keep it. Counts and amounts are signed: a reversal's are negative, sums are plain sums. */
export interface EntryRow {
  readonly sequence: bigint;
  readonly attemptId: string;
  readonly part: number;
  readonly sign: 1 | -1;
  readonly bookedAtMs: number;
  readonly baselineNanoUsd: bigint;
  /** Encoded AttemptRecord, the amount signed. */
  readonly record: Uint8Array;
  readonly decoded: AttemptRecord;
  /** SHA-256 over the row before and this one. */
  readonly hash: Uint8Array;
}

/** What the store already has of an attempt. */
export interface BookedAttempt {
  /** Kind of the original entry. */
  readonly kind: RecordKind;
  /** Encoded record of the original; only needed when it is an estimate. */
  readonly record: Uint8Array;
  readonly baselineNanoUsd: bigint;
  /** Whether its estimate was already taken back. */
  readonly reversed: boolean;
}

/** End of the chain new rows are added to. */
export interface ChainEnd {
  readonly sequence: bigint;
  readonly hash: Uint8Array;
}

/** A record as it is to be booked, priced and checked. */
export interface PricedRecord {
  readonly record: AttemptRecord;
  /** Its bytes where they are at hand and still its own. */
  readonly encoded?: Uint8Array;
  readonly baselineNanoUsd: bigint;
}

/** What a batch becomes. */
export interface BookingPlan {
  readonly rows: readonly EntryRow[];
  /** Records refused because their attempt is booked. */
  readonly duplicates: number;
}

/** Hash before the first row. */
export const CHAIN_START: ChainEnd = { sequence: 0n, hash: new Uint8Array(32) };

/**
 * The booking rules. Each attempt is booked once: the first record wins, except that a real outcome (POST) beats an
 * estimate (EXPIRE), by a reversing entry and a new one where the estimate is already booked. INTENT and VOID book nothing.
 */
export function planEntries(
  records: readonly PricedRecord[],
  existing: ReadonlyMap<string, BookedAttempt>,
  end: ChainEnd,
  nowMs: number,
): BookingPlan {
  const wanted = new Map<string, PricedRecord>();
  let duplicates = 0;
  for (const priced of records) {
    const { kind, attemptId } = priced.record;
    if (kind !== RecordKind.POST && kind !== RecordKind.EXPIRE) continue;
    const earlier = wanted.get(attemptId);
    if (earlier) duplicates++;
    if (earlier === undefined || (earlier.record.kind === RecordKind.EXPIRE && kind === RecordKind.POST)) wanted.set(attemptId, priced);
  }
  const rows: EntryRow[] = [];
  let last = end;
  const add = (priced: PricedRecord, part: number, sign: 1 | -1): void => {
    const row = chainRow(last, priced, part, sign, nowMs);
    rows.push(row);
    last = row;
  };
  for (const [attemptId, priced] of wanted) {
    const booked = existing.get(attemptId);
    if (booked === undefined) add(priced, PART.original, 1);
    else if (booked.kind === RecordKind.EXPIRE && !booked.reversed && priced.record.kind === RecordKind.POST) {
      const estimate = RECORD.decode(booked.record);
      const reversal = { ...estimate, costNanoUsd: -estimate.costNanoUsd };
      add({ record: reversal, baselineNanoUsd: -booked.baselineNanoUsd }, PART.reversal, -1);
      add(priced, PART.replacement, 1);
    } else duplicates++;
  }
  return { rows, duplicates };
}

function chainRow(end: ChainEnd, priced: PricedRecord, part: number, sign: 1 | -1, bookedAtMs: number): EntryRow {
  const sequence = end.sequence + 1n;
  const record = priced.encoded ?? encodeAttemptRecord(priced.record);
  return {
    sequence,
    attemptId: priced.record.attemptId,
    part,
    sign,
    bookedAtMs,
    baselineNanoUsd: priced.baselineNanoUsd,
    record,
    decoded: priced.record,
    hash: chainHash(end.hash, { sequence, part, bookedAtMs, baselineNanoUsd: priced.baselineNanoUsd, record }),
  };
}

/** What of a row the chain covers; its other columns repeat the record. */
export interface ChainLink {
  readonly sequence: bigint;
  readonly part: number;
  readonly bookedAtMs: number;
  readonly baselineNanoUsd: bigint;
  readonly record: Uint8Array;
}

const HASH_BYTES = 32;
const HEAD_BYTES = 25;
/** Where a hash's input is put together; grows with the largest record. */
let input = Buffer.alloc(1024);

/** SHA-256 of the previous hash and the row: a changed, missing or inserted row breaks the chain there. */
export function chainHash(previous: Uint8Array, link: ChainLink): Uint8Array {
  const { record } = link;
  const length = HASH_BYTES + HEAD_BYTES + record.length;
  if (input.length < length) input = Buffer.alloc(2 * length);
  input.set(previous);
  input.writeBigUInt64BE(link.sequence, HASH_BYTES);
  input[HASH_BYTES + 8] = link.part;
  input.writeBigInt64BE(BigInt(Math.floor(link.bookedAtMs)), HASH_BYTES + 9);
  input.writeBigInt64BE(link.baselineNanoUsd, HASH_BYTES + 17);
  input.set(record, HASH_BYTES + HEAD_BYTES);
  return hash("sha256", input.subarray(0, length), "buffer");
}

/** The entry of a stored row. */
export function entryOf(sequence: bigint, part: number, bookedAtMs: number, record: Uint8Array): Entry {
  const decoded = RECORD.decode(record);
  return create(EntrySchema, {
    record: decoded,
    sequence,
    bookedAtMs,
    reverses: part === PART.reversal ? decoded.attemptId : "",
  });
}
