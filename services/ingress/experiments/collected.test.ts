import assert from "node:assert/strict";
import { test } from "node:test";
import { Collected, COLLECT_MAX_BYTES, CollectMemory } from "./collected.ts";

const BODY = Buffer.from("{}");

test("pieces are kept without copies, up to a length, and given back", () => {
  const memory = new CollectMemory();
  const collected = new Collected(BODY, true, memory);
  const piece = Buffer.alloc(1_000);
  collected.add(piece);
  assert.equal(collected.pieces?.[0], piece);
  assert.deepEqual([collected.bytes, memory.bytes, collected.body], [1_000, 1_000, BODY]);
  collected.release();
  collected.release();
  assert.deepEqual([memory.bytes, collected.pieces?.length], [0, 1], "who has the pieces keeps them");
  const long = new Collected(BODY, true, memory);
  for (let at = 0; at <= COLLECT_MAX_BYTES; at += 1_000) long.add(piece);
  long.add(piece);
  assert.deepEqual([long.pieces, long.bytes, memory.bytes], [undefined, 0, 0]);
});

test("all answers together are bounded", () => {
  const memory = new CollectMemory();
  const quarter = Buffer.alloc(COLLECT_MAX_BYTES);
  const all = Array.from({ length: 300 }, () => new Collected(BODY, true, memory));
  for (const each of all) each.add(quarter);
  const kept = all.filter(({ pieces }) => pieces !== undefined);
  assert.equal(kept.length, 256);
  for (const each of all) each.release();
  assert.equal(memory.bytes, 0);
});

test("where only signs are looked for nothing is kept, and a refusal is found", () => {
  const memory = new CollectMemory();
  const collected = new Collected(BODY, false, memory);
  for (const text of ['{"refusal":null,"content":"a \\"refusal\\":\\"x\\""}', '{"refusal":""}']) collected.add(Buffer.from(text));
  assert.equal(collected.refused, false);
  collected.add(Buffer.from('{"refusal":"","x":{"refusal":"I cannot"}}'));
  assert.deepEqual([collected.refused, collected.pieces, memory.bytes, collected.body.length], [true, undefined, 0, 0]);
});
