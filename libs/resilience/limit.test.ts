import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ConcurrencyLimit } from "./limit.ts";

test("a limit's worth of successes at full use raises it by about one, and idle successes by nothing", () => {
  const limit = new ConcurrencyLimit({ min: 1, max: 256, initial: 20 });
  for (let count = 0; count < 21; count++) limit.onSuccess(20, 0);
  assert.equal(limit.value, 21);
  for (let count = 0; count < 500; count++) limit.onSuccess(3, 0);
  assert.equal(limit.value, 21);
});

test("a refusal keeps 70 %, at most once a second", () => {
  const limit = new ConcurrencyLimit({ min: 2, max: 256, initial: 20 });
  for (let count = 0; count < 10; count++) limit.onDrop(count);
  assert.equal(limit.value, 14);
  limit.onDrop(1_000);
  assert.equal(limit.value, 9);
  for (let second = 2; second < 60; second++) limit.onDrop(second * 1_000);
  assert.equal(limit.value, 2);
});

test("slow tokens lower it, good ones raise it while it is used, and an idle backend changes nothing", () => {
  const limit = new ConcurrencyLimit({ min: 1, max: 256, initial: 20 });
  for (let second = 0; second < 3; second++) {
    limit.onGap(100);
    limit.step(50, 20, second * 1_000);
  }
  assert.equal(limit.value, Math.floor(20 * 0.9 ** 3));
  limit.step(50, 0, 3_000);
  const low = limit.value;
  for (let second = 4; second < 40; second++) {
    limit.onGap(10);
    limit.step(50, 2, second * 1_000);
  }
  assert.equal(limit.value, low);
  for (let second = 40; second < 45; second++) {
    limit.onGap(10);
    limit.step(50, limit.value, second * 1_000);
  }
  assert.equal(limit.value, low + 5);
});

test("a backend whose capacity falls from ten to three and comes back is followed within ten seconds", () => {
  const limit = new ConcurrencyLimit({ min: 1, max: 64, initial: 10 });
  const run = (capacity: number, fromS: number, toS: number): void => {
    for (let tenth = fromS * 10; tenth < toS * 10; tenth++) {
      const inFlight = limit.value;
      for (let index = 0; index < inFlight; index++) {
        if (index < capacity) limit.onSuccess(inFlight, tenth * 100);
        else limit.onDrop(tenth * 100);
      }
    }
  };
  run(3, 0, 10);
  assert.ok(limit.value >= 2 && limit.value <= 4, String(limit.value));
  run(10, 10, 20);
  assert.ok(limit.value >= 7 && limit.value <= 13, String(limit.value));
});

test("no sequence of signals takes it out of its bounds", () => {
  const step = fc.record({ kind: fc.constantFrom("ok", "drop", "gap", "step"), value: fc.integer({ min: 0, max: 400 }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const limit = new ConcurrencyLimit({ min: 2, max: 30, initial: 500 });
      let nowMs = 0;
      for (const { kind, value } of steps) {
        nowMs += value;
        if (kind === "ok") limit.onSuccess(value, nowMs);
        else if (kind === "drop") limit.onDrop(nowMs);
        else if (kind === "gap") limit.onGap(value);
        else limit.step(50, value, nowMs);
        assert.ok(limit.value >= 2 && limit.value <= 30 && Number.isInteger(limit.value));
      }
    }),
  );
});
