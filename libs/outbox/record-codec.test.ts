import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { AnswerReviewSchema, SchemaCheck, ToolAgreement } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { UsageSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { AttemptRecordSchema, RecordKind, type AttemptRecord } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { encodeRecord, peekRecord, recordBytesMax } from "./record-codec.ts";
import { sampleRecord } from "./sample-record.ts";

const text = fc.oneof(fc.string({ maxLength: 60 }), fc.string({ unit: "grapheme", maxLength: 40 }), fc.constant(""));
const uint32 = fc.oneof(fc.nat(300), fc.integer({ min: 0, max: 0xffffffff }));
const int64 = fc.oneof(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.bigInt({ min: 0n, max: 10n ** 12n }));
/** Negative zero is a default to the wire format and not to deepEqual. */
const double = fc.double({ noNaN: true }).map((value) => (value === 0 ? 0 : value));
const anyRecord = fc
  .record({
    kind: fc.constantFrom(RecordKind.INTENT, RecordKind.POST, RecordKind.VOID, RecordKind.EXPIRE),
    attemptId: fc.uuid(),
    requestId: text,
    tenant: text,
    reason: text,
    attempt: uint32,
    tags: fc.dictionary(text, fc.oneof(text, fc.string({ minLength: 120, maxLength: 200 })), { maxKeys: 4, noNullPrototype: true }),
    reservedNanoUsd: int64,
    costNanoUsd: int64,
    startedAtUs: int64,
    experimentRevision: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    durationMs: double,
    gpuSeconds: double,
    outcome: fc.integer({ min: 0, max: 6 }),
    estimated: fc.boolean(),
    stream: fc.boolean(),
    usage: fc.record({
      inputTokens: uint32,
      outputTokens: uint32,
      webSearches: uint32,
      serviceTier: fc.oneof(text, fc.string({ minLength: 130, maxLength: 150 })),
      anomaly: fc.boolean(),
    }),
    withUsage: fc.boolean(),
    role: fc.constantFrom("", "shadow", "judge"),
    review: fc.option(
      fc.record({
        empty: fc.boolean(),
        refused: fc.boolean(),
        schema: fc.constantFrom(SchemaCheck.UNSPECIFIED, SchemaCheck.VALID, SchemaCheck.INVALID),
        textBytes: uint32,
        toolCalls: uint32,
        toolAgreement: fc.constantFrom(ToolAgreement.UNSPECIFIED, ToolAgreement.AGREES, ToolAgreement.DIFFERS),
      }),
      { nil: undefined },
    ),
  })
  .map(({ usage, withUsage, review, tags, ...fields }): AttemptRecord => {
    const record = create(AttemptRecordSchema, fields as MessageInitShape<typeof AttemptRecordSchema>);
    record.tags = { ...tags };
    if (withUsage) record.usage = create(UsageSchema, usage);
    if (review !== undefined) record.review = create(AnswerReviewSchema, review);
    return record;
  });

test("a record's bytes mean the same to the message's own codec", () => {
  fc.assert(
    fc.property(anyRecord, (record) => {
      const target = Buffer.alloc(recordBytesMax(record));
      const end = encodeRecord(record, target, 0);
      assert.deepEqual(
        fromBinary(AttemptRecordSchema, target.subarray(0, end)),
        fromBinary(AttemptRecordSchema, toBinary(AttemptRecordSchema, record)),
      );
      assert.deepEqual(peekRecord(target.subarray(0, end)), { kind: record.kind, attemptId: record.attemptId });
    }),
    { numRuns: 1_000 },
  );
});

test("a full record survives and bytes of another kind are not taken for one", () => {
  const record = sampleRecord(RecordKind.POST, "0192a5d3-7c1e-7abc-8def-0123456789ab");
  const target = Buffer.alloc(recordBytesMax(record));
  const end = encodeRecord(record, target, 0);
  assert.deepEqual(fromBinary(AttemptRecordSchema, target.subarray(0, end)), record);
  assert.equal(peekRecord(Buffer.from("not a record")), undefined);
  assert.equal(peekRecord(Buffer.alloc(0)), undefined);
});
