import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { AttemptRecordSchema, type AttemptRecord } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { codecOf } from "#libs/wire/index.ts";

/** Reads and writes one record. */
export const RECORD = codecOf(AttemptRecordSchema);

/** A record and the bytes it came as: an unchanged one is booked as those, fields of a newer ingress included. */
export interface ReceivedRecord {
  readonly record: AttemptRecord;
  readonly encoded: Uint8Array;
}

/** An EntriesRecorded. */
export interface RecordBatch {
  readonly outbox: string;
  /** It covers the outbox's records (afterSequence, lastSequence]. */
  readonly afterSequence: bigint;
  readonly lastSequence: bigint;
  readonly records: readonly ReceivedRecord[];
}

/** Field numbers of EntriesRecorded. */
const OUTBOX = 1;
const LAST_SEQUENCE = 2;
const RECORDS = 3;
const AFTER_SEQUENCE = 5;

/** Reads an EntriesRecorded, keeping each record's bytes. Throws on malformed ones. */
export function decodeRecordBatch(payload: Uint8Array): RecordBatch {
  const reader = new BinaryReader(payload);
  const records: ReceivedRecord[] = [];
  let outbox = "";
  let afterSequence = 0n;
  let lastSequence = 0n;
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag();
    if (field === RECORDS && wire === WireType.LengthDelimited) {
      const encoded = reader.bytes();
      records.push({ record: RECORD.decode(encoded), encoded });
    } else if (field === OUTBOX && wire === WireType.LengthDelimited) outbox = reader.string();
    else if (field === LAST_SEQUENCE && wire === WireType.Varint) lastSequence = BigInt(reader.uint64());
    else if (field === AFTER_SEQUENCE && wire === WireType.Varint) afterSequence = BigInt(reader.uint64());
    else reader.skip(wire, field);
  }
  return { outbox, afterSequence, lastSequence, records };
}
