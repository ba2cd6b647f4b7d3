import { fromBinary } from "@bufbuild/protobuf";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { AttemptRecordSchema, RecordKind, type AttemptRecord } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { OutboxFiles } from "./files.ts";
import { scanFrames, SEGMENT_MAGIC, type Damage } from "./frame.ts";
import { peekRecord } from "./record-codec.ts";

/** Ends of segment names; the rest is the first sequence, 16 hex digits. */
const SEGMENT_SUFFIX = ".seg";

/** One segment as the outbox keeps count of it. */
export interface SegmentState {
  readonly name: string;
  /** Sequences it can hold begin here. */
  readonly first: number;
  last: number;
  size: number;
  /** Highest sequence of a POST or EXPIRE in it; 0 = none. */
  lastBooked: number;
}

/** What opening an outbox found. */
export interface RecoveryReport {
  readonly segments: number;
  readonly records: number;
  /** Bytes of unfinished ends that were cut: the last write of a process or machine that died. */
  readonly tornBytes: number;
  /** Records whose one flipped bit was put right. */
  readonly repaired: number;
  /** Places that hold no readable record although records follow, and gaps in the numbering. Money may be missing: alarm. */
  readonly lost: number;
  /** Intents without an end: booked as estimates. */
  readonly expired: number;
}

/** State read back from the files. */
export interface Recovered {
  readonly segments: SegmentState[];
  readonly lastSequence: number;
  /** Intents without an end, by attempt, with their encoded records. */
  readonly openIntents: ReadonlyMap<string, Uint8Array>;
  readonly report: Omit<RecoveryReport, "expired">;
}

/** Name of the segment that begins with `sequence`; the generation tells apart a segment and its rewriting. */
export function segmentName(sequence: number, generation: number): string {
  return sequence.toString(16).padStart(16, "0") + (generation === 0 ? "" : `.${generation}`) + SEGMENT_SUFFIX;
}

/** Reads every segment, cuts torn ends, counts damage, and finds the intents that never ended. */
export function recover(files: OutboxFiles): Recovered {
  const segments: SegmentState[] = [];
  const openIntents = new Map<string, Uint8Array>();
  let last = 0;
  let records = 0;
  let tornBytes = 0;
  let repaired = 0;
  let lost = 0;
  const infos = files.list().filter((info) => info.name.endsWith(SEGMENT_SUFFIX));
  infos.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const info of infos) {
    const first = Number.parseInt(info.name.slice(0, -SEGMENT_SUFFIX.length), 16);
    const data = files.read(info.name, 0, info.size);
    const segment: SegmentState = { name: info.name, first, last: first - 1, size: data.length, lastBooked: 0 };
    if (data.length >= SEGMENT_MAGIC.length && data.compare(SEGMENT_MAGIC, 0, SEGMENT_MAGIC.length, 0, SEGMENT_MAGIC.length) !== 0)
      repaired++;
    const damages = scanFrames(data, SEGMENT_MAGIC.length, Math.max(last, first - 1), (sequence, payload) => {
      segment.last = Math.max(segment.last, sequence);
      if (sequence <= last) return;
      if (last > 0 && sequence > last + 1) lost++;
      last = sequence;
      records++;
      note(segment, sequence, payload, openIntents);
    });
    for (const damage of damages) {
      if (damage.kind === "repaired") repaired++;
      else if (damage.kind === "lost") lost++;
      else tornBytes += cutTail(files, segment, damage);
    }
    segments.push(segment);
  }
  return {
    segments,
    lastSequence: last,
    openIntents,
    report: { segments: infos.length, records, tornBytes, repaired, lost },
  };
}

function cutTail(files: OutboxFiles, segment: SegmentState, damage: Damage): number {
  files.truncate(segment.name, damage.at);
  segment.size = damage.at;
  return damage.bytes;
}

function note(segment: SegmentState, sequence: number, payload: Uint8Array, openIntents: Map<string, Uint8Array>): void {
  const head = peekRecord(payload);
  if (head === undefined) return;
  if (head.kind === RecordKind.INTENT) openIntents.set(head.attemptId, payload);
  else openIntents.delete(head.attemptId);
  if (isBooked(head.kind)) segment.lastBooked = sequence;
}

/** Whether records of this kind go to the ledger. */
export function isBooked(kind: RecordKind): boolean {
  return kind === RecordKind.POST || kind === RecordKind.EXPIRE;
}

/**
 * The record that books an attempt whose end nobody saw: an estimate within its reservation. It stands on what the intent
 * expected (`cost_nano_usd` and `usage`, where the ingress filled them), else on the whole reservation.
 */
export function expiredFrom(intent: AttemptRecord): AttemptRecord {
  const expected = intent.costNanoUsd;
  const within = expected > 0n && expected <= intent.reservedNanoUsd;
  return {
    ...intent,
    kind: RecordKind.EXPIRE,
    outcome: Outcome.UNSPECIFIED,
    estimated: true,
    costNanoUsd: within ? expected : intent.reservedNanoUsd,
  };
}

/** Decodes a stored record. Throws when the bytes are not a record. */
export function decodeRecord(payload: Uint8Array): AttemptRecord {
  return fromBinary(AttemptRecordSchema, payload);
}
