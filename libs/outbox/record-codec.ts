import type { Usage } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import type { AnswerReview } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { RecordKind, type AttemptRecord } from "#gen/signalbox/ledger/v1/ledger_pb.ts";

/** Numbers, tags and lengths of a record together stay below this; strings come on top. */
const FIXED_BYTES_MAX = 512;
/** A UTF-16 unit takes at most this many bytes of UTF-8. */
const UTF8_PER_UNIT = 3;
/** Strings up to this length are copied unit by unit: shorter than a call into the runtime. */
const SHORT_STRING = 48;

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;

let buffer: Buffer = Buffer.alloc(0);
let at = 0;

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
  return FIXED_BYTES_MAX + units * UTF8_PER_UNIT + tags * 16;
}

/**
 * Writes a record in protobuf's wire format at `offset` and returns the end. The message's own codec is general and about
 * ten times dearer, and this runs twice a request; a test holds the two against each other.
 */
export function encodeRecord(record: AttemptRecord, target: Buffer, offset: number): number {
  buffer = target;
  at = offset;
  uint(1, record.kind);
  text(2, record.attemptId);
  text(3, record.requestId);
  text(4, record.decisionId);
  uint(5, record.attempt);
  text(6, record.tenant);
  text(7, record.team);
  text(8, record.keyId);
  for (const key in record.tags) tagEntry(key, record.tags[key]!);
  text(10, record.model);
  text(11, record.backend);
  text(12, record.provider);
  text(13, record.upstreamModel);
  text(14, record.priceVersion);
  int64(15, record.reservedNanoUsd);
  int64(16, record.startedAtUs);
  double(17, record.durationMs);
  double(18, record.ttftMs);
  uint(19, record.outcome);
  text(20, record.reason);
  if (record.usage) usageField(record.usage);
  uint(22, record.estimated ? 1 : 0);
  int64(23, record.costNanoUsd);
  text(24, record.experiment);
  text(25, record.arm);
  int64(26, record.experimentRevision);
  text(27, record.responseId);
  uint(28, record.requestClass);
  uint(29, record.unpriced ? 1 : 0);
  text(30, record.priceGrade);
  text(31, record.purpose);
  double(32, record.gpuSeconds);
  uint(33, record.operation);
  uint(34, record.stream ? 1 : 0);
  text(35, record.role);
  if (record.review) reviewField(record.review);
  return at;
}

/** Where a record is put together before it gets a buffer of its own size; grows with the largest. */
let scratch = Buffer.alloc(0);

/** A record in protobuf's wire format, in a buffer of its own. */
export function encodeAttemptRecord(record: AttemptRecord): Uint8Array {
  const bytesMax = recordBytesMax(record);
  if (scratch.length < bytesMax) scratch = Buffer.allocUnsafeSlow(2 * bytesMax);
  return new Uint8Array(scratch.subarray(0, encodeRecord(record, scratch, 0)));
}

/** Kind and attempt of an encoded record without decoding the rest; undefined when the bytes are not one of ours. */
export function peekRecord(payload: Uint8Array): { readonly kind: RecordKind; readonly attemptId: string } | undefined {
  if (payload[0] !== 0x08 || payload[2] !== 0x12) return undefined;
  const length = payload[3]!;
  if (length > 0x7f || 4 + length > payload.length) return undefined;
  const attemptId = Buffer.from(payload.buffer, payload.byteOffset + 4, length).toString("latin1");
  return { kind: payload[1] as RecordKind, attemptId };
}

function tag(field: number, type: number): void {
  const value = (field << 3) | type;
  if (value < 0x80) buffer[at++] = value;
  else {
    buffer[at++] = (value & 0x7f) | 0x80;
    buffer[at++] = value >>> 7;
  }
}

function varint(value: number): void {
  let rest = value;
  while (rest >= 0x80000000) {
    buffer[at++] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  while (rest >= 0x80) {
    buffer[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  buffer[at++] = rest;
}

function uint(field: number, value: number): void {
  if (value === 0) return;
  tag(field, VARINT);
  varint(value);
}

function int64(field: number, value: bigint): void {
  if (value === 0n) return;
  tag(field, VARINT);
  if (value > 0n && value <= 0x1fffffffffffffn) return varint(Number(value));
  let rest = BigInt.asUintN(64, value);
  while (rest >= 0x80n) {
    buffer[at++] = Number(rest & 0x7fn) | 0x80;
    rest >>= 7n;
  }
  buffer[at++] = Number(rest);
}

function double(field: number, value: number): void {
  if (value === 0) return;
  tag(field, FIXED64);
  at = buffer.writeDoubleLE(value, at);
}

function text(field: number, value: string): void {
  if (value.length === 0) return;
  tag(field, BYTES);
  const length = value.length;
  if (length <= SHORT_STRING) {
    const start = at + 1;
    let index = 0;
    for (; index < length; index++) {
      const unit = value.charCodeAt(index);
      if (unit >= 0x80) break;
      buffer[start + index] = unit;
    }
    if (index === length) {
      buffer[at] = length;
      at = start + length;
      return;
    }
  }
  varint(Buffer.byteLength(value));
  at += buffer.write(value, at);
}

function tagEntry(key: string, value: string): void {
  tag(9, BYTES);
  const start = at;
  at += 1;
  text(1, key);
  text(2, value);
  closeMessage(start);
}

function usageField(usage: Usage): void {
  tag(21, BYTES);
  const start = at;
  at += 1;
  uint(1, usage.inputTokens);
  uint(2, usage.cacheReadTokens);
  uint(3, usage.cacheWriteTokens);
  uint(4, usage.cacheWrite1hTokens);
  uint(5, usage.outputTokens);
  uint(6, usage.reasoningTokens);
  uint(7, usage.audioInputTokens);
  uint(8, usage.audioOutputTokens);
  uint(9, usage.imageInputTokens);
  uint(10, usage.webSearches);
  text(11, usage.serviceTier);
  uint(12, usage.anomaly ? 1 : 0);
  closeMessage(start);
}

function reviewField(review: AnswerReview): void {
  tag(36, BYTES);
  const start = at;
  at += 1;
  uint(1, review.empty ? 1 : 0);
  uint(2, review.refused ? 1 : 0);
  uint(3, review.schema);
  uint(4, review.textBytes);
  uint(5, review.toolCalls);
  uint(6, review.toolAgreement);
  closeMessage(start);
}

/** Puts the length of what was written from `start + 1` into `start`, making room when it needs more than one byte. */
function closeMessage(start: number): void {
  const length = at - start - 1;
  if (length < 0x80) {
    buffer[start] = length;
    return;
  }
  const bytes = length < 0x4000 ? 2 : length < 0x200000 ? 3 : 4;
  buffer.copyWithin(start + bytes, start + 1, at);
  const end = at + bytes - 1;
  at = start;
  varint(length);
  at = end;
}
