import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "#libs/clock/fake.ts";
import { type ArmRanges, armAt, bucketOf, BUCKETS, extendRanges, fnv1a32 } from "./assignment.ts";

const UNITS = 1_000_000;
const weights = (b: number): { name: string; weight: number }[] => [
  { name: "control", weight: 1 - b },
  { name: "b", weight: b },
];

test("the hash is FNV-1a, and the buckets are those of GrowthBook's hash version 2", () => {
  assert.deepEqual(["", "a", "foobar"].map(fnv1a32), [0x811c9dc5, 0xe40c292c, 0xbf9cf968]);
  const published: readonly [string, string, number][] = [
    ["seed", "a", 0.0505],
    ["seed", "b", 0.2696],
    ["foo", "ab", 0.2575],
    ["foo", "def", 0.2019],
    ["89123klj", "8952klfjas09ujkasdf", 0.124],
    ["90850943850283058242805", "123", 0.7516],
  ];
  for (const [seed, unit, share] of published) assert.equal(bucketOf(seed, unit) / BUCKETS, share, `${seed} ${unit}`);
});

test("a million units fall into the arms by their weights, and 50 -> 60 moves no more than it must", () => {
  const half = extendRanges([], weights(0.5));
  const more = extendRanges(half, weights(0.6));
  let before = 0;
  let after = 0;
  let moved = 0;
  let back = 0;
  for (let unit = 0; unit < UNITS; unit++) {
    const bucket = bucketOf("experiment", `user-${unit}`);
    const was = armAt(half, bucket);
    const is = armAt(more, bucket);
    before += was;
    after += is;
    if (was !== is) moved++;
    if (was === 1 && is === 0) back++;
  }
  assert.ok(Math.abs(before / UNITS - 0.5) <= 0.005, `${before}`);
  assert.ok(Math.abs(after / UNITS - 0.6) <= 0.005, `${after}`);
  assert.ok(moved / UNITS <= 0.105, `${moved}`);
  assert.equal(back, 0);
});

test("whatever the weights become, arms tile the buckets and move no bucket more than their changes say", () => {
  const random = new SeededRandom(7);
  for (let run = 0; run < 25; run++) {
    let arms: ArmRanges[] = [];
    for (let step = 0; step < 5; step++) {
      const raw = Array.from({ length: 2 + random.int(4) }, () => random.next());
      const sum = raw.reduce((all, each) => all + each, 0);
      const next = extendRanges(
        arms,
        raw.map((weight, index) => ({ name: `arm-${index}`, weight: weight / sum })),
      );
      const owners = (ranges: readonly ArmRanges[]): (string | undefined)[] =>
        Array.from({ length: BUCKETS }, (_, bucket) => ranges[armAt(ranges, bucket)]?.name);
      const [was, is] = [owners(arms), owners(next)];
      assert.ok(!is.includes(undefined));
      if (step > 0) {
        const size = (all: readonly (string | undefined)[], name: string): number => all.filter((each) => each === name).length;
        const grown = next.reduce((total, { name }) => total + Math.max(0, size(is, name) - size(was, name)), 0);
        assert.equal(is.filter((name, bucket) => name !== was[bucket]).length, grown);
      }
      arms = next;
    }
  }
});

test("after a rollback the same units come back", () => {
  const half = extendRanges([], weights(0.5));
  const none = extendRanges(half, weights(0));
  assert.deepEqual(none[1]!.ranges, []);
  assert.deepEqual(extendRanges(none, weights(0.5)), half);
});
