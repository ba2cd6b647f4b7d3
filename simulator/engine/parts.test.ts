import assert from "node:assert/strict";
import { test } from "node:test";
import { Ajv } from "ajv";
import { MinuteBucket, ProviderLimits } from "./buckets.ts";
import { PrefixCache } from "./prefix-cache.ts";
import { instanceOf } from "./schema-instance.ts";
import { answerPieces, checkSum, splitPieces } from "./text.ts";
import { PromptMeter, tokensOf } from "./tokens.ts";

function meterOf(text: string): PromptMeter {
  const meter = new PromptMeter();
  meter.message();
  meter.add(text);
  return meter;
}

test("a message costs a quarter of its bytes, rounded up, and four tokens", () => {
  assert.equal(meterOf("abcdefghi").tokens, 4 + 3);
  assert.equal(tokensOf("日本"), 2);
});

test("an answer has the asked number of tokens, ends in its checksum, and some of it is not ASCII", () => {
  let wide = 0;
  for (let length = 3; length < 80; length++) {
    const pieces = answerPieces(length * 7919, length, "x");
    assert.equal(pieces.length, length);
    assert.equal(checkSum(pieces.join("")), "ok");
    assert.ok(pieces.every((piece) => piece !== ""));
    if (Buffer.byteLength(pieces.join("")) > pieces.join("").length) wide++;
  }
  assert.ok(wide > 10);
});

test("any text is cut into tokens that join to it again, surrogate pairs whole", () => {
  for (const text of ["", "a", "abcd", "abcde", "ab🚂cd🚂🚂", "日本語です", "🚂".repeat(9)]) {
    const pieces = splitPieces(text);
    assert.equal(pieces.join(""), text);
    for (const piece of pieces) assert.equal(Buffer.from(piece).toString(), piece);
  }
});

test("repeated prompts hit the block cache by whole blocks, another start misses, old blocks are forgotten", () => {
  const cache = new PrefixCache(64 * 40);
  const text = Array.from({ length: 100 }, (_, index) => `word ${index} `).join("");
  assert.equal(cache.useBlocks(meterOf(text)).read, 0);
  const blocks = Math.floor(text.length / 256);
  assert.equal(cache.useBlocks(meterOf(text)).read, blocks * 64);
  assert.equal(cache.useBlocks(meterOf(`${text} and more of it`)).read, blocks * 64);
  assert.equal(cache.useBlocks(meterOf(`!${text}`)).read, 0);
  for (let index = 0; index < 40; index++) cache.useBlocks(meterOf(String(index).repeat(300)));
  assert.equal(cache.useBlocks(meterOf(text)).read, 0);
  assert.ok(cache.hits > 0 && cache.hits < cache.queries);
});

test("marked prefixes are written, read until their time is over, and only the rest is written anew", () => {
  const cache = new PrefixCache(1000);
  const meter = meterOf("a".repeat(800));
  const short = { tokens: 100, characters: 400, ttl: "5m" } as const;
  const long = { tokens: 200, characters: 800, ttl: "1h" } as const;
  assert.deepEqual(cache.usePoints(meter, [short], 0), { read: 0, write5m: 100, write1h: 0 });
  assert.deepEqual(cache.usePoints(meter, [short, long], 1000), { read: 100, write5m: 0, write1h: 100 });
  assert.deepEqual(cache.usePoints(meter, [short, long], 2000), { read: 200, write5m: 0, write1h: 0 });
  assert.deepEqual(cache.usePoints(meter, [short], 2000 + 300_001), { read: 0, write5m: 100, write1h: 0 });
});

test("a bucket empties, says how long to wait, and refills evenly", () => {
  const bucket = new MinuteBucket(60, 0);
  bucket.take(60);
  assert.equal(bucket.waitMs(1, 0), 1000);
  assert.equal(bucket.remaining(2500), 2);
  assert.equal(Math.round(bucket.resetMs(30_000)), 30_000);
});

test("limits name what is over: requests, tokens, or too many at once; without limits nothing is", () => {
  const limits = new ProviderLimits({ rpm: 2, tpm: 100, concurrent: 5 }, 0);
  assert.equal(limits.admit(60, 0, 0), undefined);
  assert.equal(limits.admit(60, 0, 0)?.what, "tokens");
  assert.equal(limits.admit(1, 5, 0)?.what, "concurrent");
  assert.equal(limits.admit(1, 0, 0), undefined);
  assert.deepEqual([limits.admit(1, 0, 0)?.what, limits.admit(1, 0, 0)?.retryAfterMs], ["requests", 30_000]);
  assert.equal(new ProviderLimits(undefined, 0).admit(1e12, 1e6, 0), undefined);
});

const SCHEMAS: readonly object[] = [
  {
    type: "object",
    properties: { a: { type: "string", minLength: 12 }, b: { type: "integer", minimum: 3, maximum: 3 } },
    required: ["a", "b"],
    additionalProperties: false,
  },
  { type: "array", items: { type: "number", exclusiveMinimum: 2 }, minItems: 2 },
  {
    $defs: { node: { type: "object", properties: { next: { anyOf: [{ $ref: "#/$defs/node" }, { type: "null" }] } }, required: ["next"] } },
    $ref: "#/$defs/node",
  },
  {
    type: "object",
    properties: { kind: { const: "x" }, level: { enum: ["low", "high"] }, at: { type: "string", format: "date-time" } },
    required: ["kind", "level", "at"],
  },
  {
    allOf: [
      { type: "object", properties: { a: { type: "boolean" } }, required: ["a"] },
      { properties: { b: { type: ["string", "null"] } }, required: ["b"] },
    ],
  },
  { oneOf: [{ type: "integer", multipleOf: 7, minimum: 8 }, { type: "string" }] },
  {
    type: "object",
    properties: {
      list: {
        type: "array",
        items: { type: "object", properties: { __proto__x: { type: "string", maxLength: 3 } }, required: ["__proto__x"] },
        minItems: 1,
      },
    },
    required: ["list"],
  },
];

test("the instance of a schema satisfies it", () => {
  const ajv = new Ajv({ strict: false, validateFormats: false });
  for (const schema of SCHEMAS) {
    const value = instanceOf(schema);
    assert.ok(ajv.validate(schema, value), `${JSON.stringify(schema)} -> ${JSON.stringify(value)}: ${ajv.errorsText()}`);
  }
});
