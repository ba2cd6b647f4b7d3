import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock, SeededRandom } from "#libs/clock/fake.ts";
import { type Batchable, Batcher } from "./batcher.ts";
import { answerOf, merge, readVectors, splitTokens } from "./merge.ts";
import type { BatchRequest } from "./request.ts";
import { shareTokens } from "./share.ts";

interface Item extends Batchable {
  readonly name: number;
}

function item(name: number, tokens = 10, items = 1): Item {
  return { name, tokens, items, maxWaitMs: 4 };
}

function rig(limits = { maxItems: 4, maxTokens: 1_000 }): {
  clock: FakeClock;
  calls: number[][];
  stuck: { times: number };
  room: { left: number };
  batcher: Batcher<Item>;
} {
  const clock = new FakeClock();
  const calls: number[][] = [];
  const stuck = { times: 0 };
  const room = { left: Number.POSITIVE_INFINITY };
  const names = (members: readonly Item[]): number[] => members.map(({ name }) => name);
  const batcher = new Batcher<Item>(
    limits,
    clock,
    (members) => {
      if (room.left === 0) return false;
      room.left--;
      calls.push(names(members));
      return true;
    },
    () => void stuck.times++,
  );
  return { clock, calls, stuck, room, batcher };
}

test("with nothing in flight nobody waits", () => {
  const { batcher, calls } = rig();
  batcher.add(item(1));
  assert.deepEqual(calls, [[1]]);
  batcher.returned();
  batcher.add(item(2));
  assert.deepEqual(calls, [[1], [2]]);
});

test("those who come meanwhile go together when the call returns", () => {
  const { batcher, calls } = rig();
  for (const name of [1, 2, 3]) batcher.add(item(name));
  assert.deepEqual(calls, [[1]]);
  batcher.returned();
  assert.deepEqual(calls, [[1], [2, 3]]);
});

test("a full batch does not wait for anything: by items, and by tokens", () => {
  const { batcher, calls } = rig();
  for (const name of [1, 2, 3, 4, 5]) batcher.add(item(name));
  assert.deepEqual(calls, [[1], [2, 3, 4, 5]]);
  const heavy = rig();
  for (const name of [1, 2, 3]) heavy.batcher.add(item(name, 600));
  assert.deepEqual(heavy.calls, [[1], [2], [3]]);
});

test("nobody waits longer than the longest wait, and less where a batch fills sooner", () => {
  const slow = rig();
  slow.batcher.add(item(1));
  slow.clock.advance(100);
  slow.batcher.add(item(2));
  slow.clock.advance(3.9);
  assert.equal(slow.calls.length, 1);
  slow.clock.advance(0.2);
  assert.deepEqual(slow.calls, [[1], [2]]);
  const quick = rig({ maxItems: 11, maxTokens: 1_000 });
  quick.batcher.add(item(1));
  quick.clock.advance(0.2);
  quick.batcher.add(item(2));
  // Half of 10 places at 0.2 ms each.
  quick.clock.advance(1.01);
  assert.deepEqual(quick.calls, [[1], [2]]);
});

test("one that leaves before the call is not sent", () => {
  const { batcher, calls } = rig();
  const gone = item(2);
  batcher.add(item(1));
  batcher.add(gone);
  batcher.add(item(3));
  assert.equal(batcher.remove(gone), true);
  batcher.returned();
  assert.deepEqual(calls, [[1], [3]]);
  assert.equal(batcher.remove(gone), false);
});

test("without room they wait for a call that returns, and where there is none somebody else is told", () => {
  const { batcher, calls, stuck, room } = rig();
  room.left = 1;
  for (const name of [1, 2, 3, 4, 5]) batcher.add(item(name));
  assert.deepEqual(calls, [[1]]);
  room.left = 1;
  batcher.returned();
  assert.deepEqual(calls, [[1], [2, 3, 4, 5]]);
  batcher.returned();
  room.left = 0;
  batcher.add(item(6));
  assert.deepEqual([stuck.times, batcher.waiting], [1, 1]);
  room.left = 1;
  batcher.flush();
  assert.deepEqual(calls.at(-1), [6]);
});

test("in virtual time, any arrivals are each sent once, in calls within the limits, and never later than their wait", () => {
  for (let seed = 1; seed <= 50; seed++) {
    const random = new SeededRandom(seed);
    const clock = new FakeClock();
    const addedMs = new Map<number, number>();
    const seen: number[] = [];
    const batcher: Batcher<Item> = new Batcher<Item>(
      { maxItems: 8, maxTokens: 200 },
      clock,
      (members) => {
        assert.ok(members.length === 1 || members.reduce((sum, { items }) => sum + items, 0) <= 8);
        assert.ok(members.length === 1 || members.reduce((sum, { tokens }) => sum + tokens, 0) <= 200);
        for (const { name } of members) {
          seen.push(name);
          assert.ok(clock.monotonicMs() - addedMs.get(name)! <= 4.001, `seed ${seed}`);
        }
        clock.after(1 + 30 * random.next(), () => batcher.returned());
        return true;
      },
      () => assert.fail("there is room"),
    );
    for (let name = 0; name < 300; name++) {
      addedMs.set(name, clock.monotonicMs());
      batcher.add(item(name, 1 + random.int(60), 1 + random.int(3)));
      if (random.next() < 0.5) clock.advance(3 * random.next());
    }
    clock.advance(100);
    assert.deepEqual(
      seen,
      [...seen].sort((a, b) => a - b),
      `seed ${seed}`,
    );
    assert.equal(seen.length, 300, `seed ${seed}`);
    assert.equal(batcher.calls, 0);
  }
});

test("shares add up to the total to the token, whatever the weights", () => {
  assert.deepEqual(shareTokens(10, [1, 1, 1]), [4, 3, 3]);
  assert.deepEqual(shareTokens(7, [0, 0]), [4, 3]);
  assert.deepEqual(shareTokens(0, [5, 1]), [0, 0]);
  const random = new SeededRandom(3);
  for (let round = 0; round < 2_000; round++) {
    const weights = Array.from({ length: 1 + random.int(40) }, () => random.next() * 1_000);
    const total = random.int(100_000);
    const parts = shareTokens(total, weights);
    assert.equal(
      parts.reduce((sum, part) => sum + part, 0),
      total,
    );
    const sum = weights.reduce((all, weight) => all + weight, 0);
    parts.forEach((part, index) => assert.ok(Math.abs(part - (total * weights[index]!) / sum) < 1 + 1e-6));
  }
});

function request(texts: readonly string[]): BatchRequest {
  return { key: "k", options: { dimensions: 2 }, inputs: texts.map((text) => ({ json: JSON.stringify(text), tokens: text.length })) };
}

test("requests are merged shortest first, identical inputs once, and every caller gets its own back in its order", () => {
  const merged = merge("m", [request(["ccc", "a"]), request(["bb", "ccc"]), request(["ccc"])]);
  assert.deepEqual(JSON.parse(String(merged.body)), { model: "m", input: ["a", "bb", "ccc"], dimensions: 2 });
  assert.deepEqual(merged.places, [[2, 0], [1, 2], [2]]);
  const tokens = splitTokens(12, merged);
  assert.equal(
    tokens.reduce((sum, part) => sum + part, 0),
    12,
  );
  assert.deepEqual(tokens, [4, 6, 2]);
  const data = [2, 0, 1].map((index) => ({ object: "embedding", index, embedding: [index, -0.5] }));
  const vectors = readVectors(Buffer.from(JSON.stringify({ object: "list", data, model: "m" }, undefined, 1)), 3)!;
  assert.deepEqual(
    vectors.map((vector) => JSON.parse(String(vector))),
    [
      [0, -0.5],
      [1, -0.5],
      [2, -0.5],
    ],
  );
  const answer = JSON.parse(String(answerOf([vectors[2]!, vectors[0]!], "m", 4))) as { data: unknown[]; usage: unknown };
  assert.deepEqual(answer.data, [
    { object: "embedding", index: 0, embedding: [2, -0.5] },
    { object: "embedding", index: 1, embedding: [0, -0.5] },
  ]);
  assert.deepEqual(answer.usage, { prompt_tokens: 4, total_tokens: 4 });
});

test("an answer with missing, repeated or foreign entries is none", () => {
  const entry = (index: number): unknown => ({ object: "embedding", index, embedding: "AAAA" });
  for (const data of [[entry(0)], [entry(0), entry(0)], [entry(0), entry(2)], [entry(0), { index: 1 }], []]) {
    assert.equal(readVectors(Buffer.from(JSON.stringify({ data })), 2), undefined, JSON.stringify(data));
  }
  assert.equal(readVectors(Buffer.from('{"data":{}}'), 0), undefined);
});
