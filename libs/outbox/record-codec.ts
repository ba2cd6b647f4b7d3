import type { AnswerReview } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { RecordKind, type AttemptRecord } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import * as wire from "#libs/wire/index.ts";

/** Numbers, tags and lengths of a record together stay below this; strings come on top. */
const FIXED_BYTES_MAX = 512;

/** Upper bound of a record's encoded size, cheap to compute. */
export function recordBytesMax(record: AttemptRecord): number {
  let units =
    record.attemptId.length +
    record.requestId.length +
    record.decisionId.length +
    record.tenant.length +
    record.team.length +
    record.keyId.length +
    record.model.length +
    record.backend.length +
    record.provider.length +
    record.upstreamModel.length +
    record.priceVersion.length +
    record.reason.length +
    record.experiment.length +
    record.arm.length +
    record.responseId.length +
    record.priceGrade.length +
    record.purpose.length +
    record.role.length +
    (record.usage?.serviceTier.length ?? 0);
  let tags = 0;
  for (const key in record.tags) {
    units += key.length + record.tags[key]!.length;
    tags++;
  }
  return FIXED_BYTES_MAX + units * wire.UTF8_PER_UNIT + tags * 16;
}

/**
 * Writes a record in protobuf's wire format at `offset` and returns the end. The message's own codec is general and about
 * ten times dearer, and this runs twice a request; a test holds the two against each other.
 */
export function encodeRecord(record: AttemptRecord, target: Buffer, offset: number): number {
  wire.beginMessage(target, offset);
  wire.uint(1, record.kind);
  wire.text(2, record.attemptId);
  wire.text(3, record.requestId);
  wire.text(4, record.decisionId);
  wire.uint(5, record.attempt);
  wire.text(6, record.tenant);
  wire.text(7, record.team);
  wire.text(8, record.keyId);
  wire.textMap(9, record.tags);
  wire.text(10, record.model);
  wire.text(11, record.backend);
  wire.text(12, record.provider);
  wire.text(13, record.upstreamModel);
  wire.text(14, record.priceVersion);
  wire.int64(15, record.reservedNanoUsd);
  wire.int64(16, record.startedAtUs);
  wire.double(17, record.durationMs);
  wire.double(18, record.ttftMs);
  wire.uint(19, record.outcome);
  wire.text(20, record.reason);
  if (record.usage) wire.usage(21, record.usage);
  wire.bool(22, record.estimated);
  wire.int64(23, record.costNanoUsd);
  wire.text(24, record.experiment);
  wire.text(25, record.arm);
  wire.int64(26, record.experimentRevision);
  wire.text(27, record.responseId);
  wire.uint(28, record.requestClass);
  wire.bool(29, record.unpriced);
  wire.text(30, record.priceGrade);
  wire.text(31, record.purpose);
  wire.double(32, record.gpuSeconds);
  wire.uint(33, record.operation);
  wire.bool(34, record.stream);
  wire.text(35, record.role);
  if (record.review) reviewField(record.review);
  return wire.endMessage();
}

/** Where a record is put together before it gets a buffer of its own size; grows with the largest. */
let scratch = Buffer.alloc(0);

/** A record in protobuf's wire format, in a buffer of its own. */
export function encodeAttemptRecord(record: AttemptRecord): Uint8Array {
  const bytesMax = recordBytesMax(record);
  if (scratch.length < bytesMax) scratch = Buffer.allocUnsafeSlow(2 * bytesMax);
  return new Uint8Array(scratch.subarray(0, encodeRecord(record, scratch, 0)));
}

/** Kind of an encoded record without decoding the rest; undefined when the bytes are not one of ours. */
export function peekKind(payload: Uint8Array): RecordKind | undefined {
  return payload[0] === 0x08 && payload[2] === 0x12 && payload[3]! <= 0x7f && 4 + payload[3]! <= payload.length
    ? (payload[1] as RecordKind)
    : undefined;
}

/** Kind and attempt of an encoded record without decoding the rest; undefined when the bytes are not one of ours. */
export function peekRecord(payload: Uint8Array): { readonly kind: RecordKind; readonly attemptId: string } | undefined {
  const kind = peekKind(payload);
  if (kind === undefined) return undefined;
  return { kind, attemptId: Buffer.from(payload.buffer, payload.byteOffset + 4, payload[3]).toString("latin1") };
}

function reviewField(review: AnswerReview): void {
  const start = wire.openMessage(36);
  wire.bool(1, review.empty);
  wire.bool(2, review.refused);
  wire.uint(3, review.schema);
  wire.uint(4, review.textBytes);
  wire.uint(5, review.toolCalls);
  wire.uint(6, review.toolAgreement);
  wire.closeMessage(start);
}
