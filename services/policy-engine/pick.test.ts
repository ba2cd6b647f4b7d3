import assert from "node:assert/strict";
import { test } from "node:test";
import { createTable, pick, type PickTable, type PickWeights, STANDING } from "./pick.ts";

const WEIGHTS: PickWeights = { ttftTargetMs: 1_000, tpotTargetMs: 50, headroom: 0.9, nanoPerLateSecond: 2e6 };

interface Row {
  readonly gate?: number;
  readonly tpot?: number;
  readonly score?: number;
  readonly nano?: number;
  readonly standing?: number;
  readonly idle?: boolean;
}

function tableOf(...rows: readonly Row[]): PickTable {
  const table = createTable(rows.length);
  table.count = rows.length;
  table.outputTokens = 100;
  for (const [at, row] of rows.entries()) {
    table.gateMs[at] = row.gate ?? 100;
    table.tpotMs[at] = row.tpot ?? 10;
    table.scoreMs[at] = row.score ?? 1_000;
    table.marginalNano[at] = row.nano ?? 0;
    table.idle[at] = row.idle === true ? 1 : 0;
    table.standing[at] = row.standing ?? STANDING.free;
  }
  return table;
}

function order(table: PickTable, seed = 7, explore = false, weights = WEIGHTS): readonly number[] {
  return Array.from(table.order.subarray(0, pick(table, weights, seed, explore)));
}

test("among those that meet the targets the cheapest wins, however fast the dear one is", () => {
  assert.deepEqual(order(tableOf({ nano: 5_000_000, score: 100 }, { nano: 1_000_000, score: 2_000 })), [1, 0]);
});

test("within a tenth of the cheapest the lower score wins", () => {
  assert.deepEqual(
    order(tableOf({ nano: 1_000_000, score: 2_000 }, { nano: 1_100_000, score: 900 }, { nano: 1_200_000, score: 1 })),
    [1, 0, 2],
  );
});

test("whoever misses a target by the headroom comes after all who meet it", () => {
  assert.deepEqual(order(tableOf({ gate: 901 }, { gate: 900, nano: 9_000_000 }, { tpot: 41 })), [1, 0, 2]);
  assert.deepEqual(order(tableOf({ gate: 901 }, { gate: 900, nano: 9_000_000 }), 7, false, { ...WEIGHTS, headroom: 1 }), [0, 1]);
});

test("when nobody meets the targets a second late is worth what the class says", () => {
  const rows = [
    { gate: 3_000, nano: 0 },
    { gate: 2_000, nano: 3_000_000 },
  ] as const;
  assert.deepEqual(order(tableOf(...rows)), [0, 1], "one second at 2e6 nano does not pay for 3e6");
  assert.deepEqual(order(tableOf(...rows), 7, false, { ...WEIGHTS, nanoPerLateSecond: 4e6 }), [1, 0]);
});

test("near-ties go by chance and nothing else does", () => {
  const firsts = new Set<number>();
  for (let seed = 0; seed < 200; seed++) firsts.add(order(tableOf({ score: 1_000 }, { score: 1_019 }, { score: 1_021 }), seed)[0]!);
  assert.deepEqual(
    [...firsts].toSorted((a, b) => a - b),
    [0, 1],
  );
});

test("one decision in a hundred tries a late candidate that nobody uses, and none when exploring is off", () => {
  const idle = { gate: 5_000, idle: true } as const;
  let explored = 0;
  for (let seed = 0; seed < 20_000; seed++) if (order(tableOf({}, idle), seed, true)[0] === 1) explored++;
  assert.ok(explored > 120 && explored < 290, String(explored));
  for (let seed = 0; seed < 2_000; seed++) {
    assert.equal(order(tableOf({}, idle), seed, false)[0], 0);
    assert.equal(order(tableOf({}, { gate: 5_000 }), seed, true)[0], 0, "one in use is known");
  }
});

test("one decision in twenty makes a little-known candidate of the band known", () => {
  let tried = 0;
  for (let seed = 0; seed < 20_000; seed++)
    if (order(tableOf({}, { score: 5_000, standing: STANDING.fresh }), seed, true)[0] === 1) tried++;
  assert.ok(tried > 850 && tried < 1_150, String(tried));
});

test("busy candidates come last, ruled-out ones not at all, and a trial goes first", () => {
  const table = tableOf(
    { standing: STANDING.busy, score: 1 },
    { standing: STANDING.out },
    { score: 5_000 },
    { standing: STANDING.trial, score: 9_000 },
  );
  assert.deepEqual(order(table), [3, 2, 0]);
});

test("a little-known candidate with its quota in flight waits behind the known, unless there are none", () => {
  assert.deepEqual(order(tableOf({ standing: STANDING.uncertain, score: 1 }, { score: 5_000 })), [1, 0]);
  assert.deepEqual(order(tableOf({ standing: STANDING.uncertain, score: 1 }, { standing: STANDING.uncertain, score: 5_000 })), [0, 1]);
});

test("blind to other engines, the better of two drawn candidates is taken, and the prefix's holder if better still", () => {
  const scores = [100, 200, 300, 400, 500, 600].map((score) => ({ score }));
  const firsts = new Map<number, number>();
  for (let seed = 0; seed < 6_000; seed++) {
    const table = tableOf(...scores);
    table.sampled = true;
    const first = order(table, seed)[0]!;
    firsts.set(first, (firsts.get(first) ?? 0) + 1);
  }
  assert.equal(firsts.size, 6, "even the worst is drawn with itself now and then");
  assert.ok(firsts.get(0)! > 1_650 && firsts.get(0)! < 2_020, `11 of 36: ${firsts.get(0)}`);
  for (let seed = 0; seed < 500; seed++) {
    const table = tableOf(...scores);
    table.sampled = true;
    table.holder = 2;
    assert.ok(order(table, seed)[0]! <= 2);
  }
});

test("where nothing costs money the score decides among the late, not whose own lateness is least", () => {
  const rows = [
    { gate: 1_100, score: 9_000 },
    { gate: 2_000, score: 4_000 },
  ] as const;
  assert.deepEqual(order(tableOf(...rows)), [1, 0]);
  assert.deepEqual(order(tableOf(...rows, { gate: 9_000, score: 9_000, nano: 1 })).slice(0, 2), [0, 1], "money is at stake");
});

test("a little-known candidate is tried before one known to be late", () => {
  assert.deepEqual(
    order(tableOf({ gate: 5_000, score: 1 }, { standing: STANDING.uncertain, score: 5_000 }, { standing: STANDING.fresh, gate: 6_000 })),
    [1, 0, 2],
  );
});
