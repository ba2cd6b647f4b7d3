import assert from "node:assert/strict";
import { test } from "node:test";
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { LiveMap, Slots } from "./index.ts";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as (options?: { type: "minor" }) => void;

test("a slot is used again, and only what is in is met", () => {
  const slots = new Slots<{ name: string }>();
  const [a, b] = [slots.add({ name: "a" }), slots.add({ name: "b" })];
  slots.remove(a);
  slots.remove(a);
  assert.equal(slots.size, 1);
  assert.equal(slots.add({ name: "c" }), a);
  assert.deepEqual(Array.from(slots, ({ name }) => name).sort(), ["b", "c"]);
  slots.remove(-1);
  assert.equal(slots.at(b)!.name, "b");
  slots.clear();
  assert.equal(slots.size, 0);
});

test("what is met may take itself out", () => {
  const slots = new Slots<{ slot: number }>();
  for (let i = 0; i < 5; i++) {
    const item = { slot: -1 };
    item.slot = slots.add(item);
  }
  let met = 0;
  for (const { slot } of slots) {
    met++;
    slots.remove(slot);
  }
  assert.deepEqual([met, slots.size], [5, 0]);
});

test("a live map answers as a map does", () => {
  const live = new LiveMap<string, { value: number }>();
  live.set("a", { value: 1 });
  live.set("b", { value: 2 });
  live.set("a", { value: 3 });
  assert.deepEqual([live.size, live.get("a"), live.get("c"), live.has("b")], [2, { value: 3 }, undefined, true]);
  assert.deepEqual([live.delete("a"), live.delete("a"), live.get("a"), live.size], [true, false, undefined, 1]);
  assert.deepEqual(Array.from(live.values()), [{ value: 2 }]);
  live.clear();
  assert.deepEqual([live.size, live.get("b")], [0, undefined]);
});

/** Bytes that became old while requests passed: 64 at a time, a kilobyte each, quick collections between them. */
function promoted(set: (key: string, value: object) => void, remove: (key: string) => void): number {
  const old = (): number => getHeapSpaceStatistics().find((space) => space.space_name === "old_space")!.space_used_size;
  set("first", { pad: [] });
  collect();
  collect();
  const before = old();
  for (let i = 0; i < 20_000; i++) {
    set(`request ${i}`, { pad: Array.from({ length: 128 }, () => i) });
    if (i >= 64) remove(`request ${i - 64}`);
    if (i % 1_000 === 0) collect({ type: "minor" });
  }
  return old() - before;
}

test("a request that is over does not outlive the quick collections in a table that was given up", () => {
  const live = new LiveMap<string, object>();
  const inLiveMap = promoted(
    (key, value) => live.set(key, value),
    (key) => void live.delete(key),
  );
  const map = new Map<string, object>();
  const inMap = promoted(
    (key, value) => void map.set(key, value),
    (key) => void map.delete(key),
  );
  assert.ok(inLiveMap * 4 < inMap, `${inLiveMap} bytes became old beside ${inMap} with a plain map`);
});
