import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type DescMessage, fromBinary, type MessageShape, ScalarType, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { AttemptDataSchema, AttemptEndSchema, AttemptOpenSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import {
  AttemptsRequestSchema,
  AttemptsResponseFrameSchema,
  AttemptsResponseSchema,
} from "#gen/signalbox/adapter/v1/adapter_service_pb.ts";
import { AttemptReportSchema, DecideRequestSchema, DecisionSchema, PolicyFallbackSchema } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { SessionRequestSchema, SessionResponseSchema } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import { SeededRandom } from "#libs/clock/fake.ts";
import { codecOf } from "#libs/wire/index.ts";
import { readFrames } from "./frames.ts";

const HOT: readonly DescMessage[] = [
  DecideRequestSchema,
  DecisionSchema,
  PolicyFallbackSchema,
  AttemptReportSchema,
  AttemptOpenSchema,
  AttemptDataSchema,
  AttemptEndSchema,
  SessionRequestSchema,
  SessionResponseSchema,
  AttemptsRequestSchema,
  AttemptsResponseSchema,
];

/** Any message of a type, by its descriptor, so that fields added later are covered too. */
function anyMessage(schema: DescMessage, depth = 0): fc.Arbitrary<Record<string, unknown>> {
  const members: Record<string, fc.Arbitrary<unknown>> = {};
  for (const field of schema.fields) {
    if (field.oneof) continue;
    if (field.fieldKind === "list") {
      const item = field.message ? anyMessage(field.message, depth + 1) : anyScalar(field.enum ? ScalarType.INT32 : field.scalar!);
      members[field.localName] = fc.array(item, { maxLength: depth > 1 ? 1 : 3 });
    } else if (field.fieldKind === "map") {
      const value =
        field.mapKind === "message" ? anyMessage(field.message, depth + 1) : anyScalar((field.scalar ?? ScalarType.INT32) as ScalarType);
      members[field.localName] = fc.dictionary(
        fc.string({ maxLength: 8 }).filter((key) => key !== "__proto__"),
        value,
        { maxKeys: 3 },
      );
    } else if (field.fieldKind === "message") {
      members[field.localName] = fc.option(anyMessage(field.message, depth + 1), { nil: undefined });
    } else {
      members[field.localName] = anyScalar(field.fieldKind === "enum" ? ScalarType.INT32 : field.scalar);
    }
  }
  for (const oneof of schema.oneofs) {
    members[oneof.localName] = fc.oneof(
      fc.constant({ case: undefined }),
      ...oneof.fields.map((field) => {
        const value = field.message ? anyMessage(field.message, depth + 1) : anyScalar((field.scalar ?? ScalarType.INT32) as ScalarType);
        return value.map((held) => ({ case: field.localName, value: held }));
      }),
    );
  }
  return fc.record(members).map((values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)));
}

function anyScalar(scalar: ScalarType): fc.Arbitrary<unknown> {
  const byType: Partial<Record<ScalarType, fc.Arbitrary<unknown>>> = {
    [ScalarType.STRING]: fc.oneof(fc.constant(""), fc.string({ maxLength: 300 }), fc.string({ unit: "grapheme", maxLength: 20 })),
    [ScalarType.BYTES]: fc.uint8Array({ maxLength: 300 }).map((bytes) => new Uint8Array(bytes)),
    [ScalarType.BOOL]: fc.boolean(),
    [ScalarType.UINT32]: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff_ffff })),
    [ScalarType.INT32]: fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff }),
    [ScalarType.DOUBLE]: fc.oneof(fc.constantFrom(0, -0, 1.5, Number.POSITIVE_INFINITY, Number.NaN), fc.double()),
    [ScalarType.INT64]: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    [ScalarType.UINT64]: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  };
  return byType[scalar] ?? assert.fail(`no values for scalar type ${scalar}`);
}

for (const schema of HOT) {
  test(`${schema.typeName} is encoded to protobuf-es's bytes and decoded to its messages`, () => {
    const codec = codecOf(schema);
    fc.assert(
      fc.property(anyMessage(schema), (values) => {
        const message = create(schema, values as never) as MessageShape<typeof schema>;
        const theirs = toBinary(schema, message);
        assert.deepEqual(Buffer.from(codec.encode(message)), Buffer.from(theirs));
        assert.deepEqual(codec.decode(theirs), fromBinary(schema, theirs));
      }),
      { numRuns: 100, seed: 42 },
    );
  });
}

test("unknown fields are skipped, unpacked lists are read, the last of a repeated scalar wins, messages merge", () => {
  const writer = new BinaryWriter();
  writer.tag(999, WireType.LengthDelimited).string("from the future");
  writer.tag(8, WireType.Varint).uint32(5).tag(8, WireType.Varint).uint32(6);
  writer.tag(3, WireType.Varint).uint32(1).tag(3, WireType.Varint).uint32(2);
  writer.tag(4, WireType.Varint).uint32(77);
  const open = codecOf(AttemptOpenSchema).decode(writer.finish());
  assert.deepEqual([open.fields, open.attempt, open.backend], [[5, 6], 2, ""]);
  const usage = (field: number, value: number): Uint8Array => new BinaryWriter().tag(field, WireType.Varint).uint32(value).finish();
  const twice = new BinaryWriter()
    .tag(2, WireType.LengthDelimited)
    .bytes(usage(1, 10))
    .tag(2, WireType.LengthDelimited)
    .bytes(usage(5, 20))
    .finish();
  const end = codecOf(AttemptEndSchema).decode(twice);
  assert.deepEqual(end, fromBinary(AttemptEndSchema, twice));
  assert.deepEqual([end.usage?.inputTokens, end.usage?.outputTokens], [10, 20]);
});

test("decoded messages share nothing with each other", () => {
  const codec = codecOf(DecideRequestSchema);
  const first = codec.decode(new Uint8Array(0));
  first.tags["a"] = "1";
  first.exclude.push("x");
  const second = codec.decode(new Uint8Array(0));
  assert.deepEqual([second.tags, second.exclude], [{}, []]);
});

test("malformed bytes are refused with an error, never taken and never a crash: 20,000 mutations", () => {
  const random = new SeededRandom(99);
  const sample = create(AttemptsResponseSchema, {
    frames: [
      { channel: 1, frame: { case: "data", value: { data: new Uint8Array(40), content: true, contentEvents: 2 } } },
      { channel: 2, frame: { case: "end", value: { outcome: 1, usage: { inputTokens: 3 }, warnings: ["a"], error: { reason: "X" } } } },
      { channel: 0, frame: { case: "draining", value: {} } },
    ],
  });
  const decision = create(DecisionSchema, {
    decisionId: "d",
    result: { case: "allow", value: { candidates: [{ backend: "a", terms: { x: 1 } }] } },
  });
  const seeds = [
    {
      bytes: toBinary(AttemptsResponseSchema, sample),
      read: (bytes: Uint8Array) => readFrames(codecOf(AttemptsResponseFrameSchema), bytes, () => {}),
    },
    { bytes: toBinary(DecisionSchema, decision), read: (bytes: Uint8Array) => void codecOf(DecisionSchema).decode(bytes) },
  ];
  let refused = 0;
  for (let round = 0; round < 20_000; round++) {
    const { bytes, read } = seeds[round % seeds.length]!;
    const mutated =
      round % 5 === 0
        ? random.bytes(new Uint8Array(random.int(60)))
        : bytes.slice(0, round % 3 === 0 ? random.int(bytes.length) : bytes.length);
    for (let flip = random.int(4); flip > 0 && mutated.length > 0; flip--) mutated[random.int(mutated.length)] = random.int(256);
    try {
      read(mutated);
    } catch (cause) {
      assert.ok(cause instanceof Error);
      refused++;
    }
  }
  assert.ok(refused > 5_000, `${refused} refused`);
  for (const { bytes, read } of seeds) read(bytes);
});

test("a length beyond the bytes is refused before anything is allocated for it", () => {
  assert.throws(() => codecOf(DecisionSchema).decode(Uint8Array.of(0x62, 0xff, 0xff, 0xff, 0xff, 0x0f)));
  assert.throws(() => codecOf(AttemptDataSchema).decode(Uint8Array.of(0x0a, 0xff, 0xff, 0xff, 0x7f)));
});
