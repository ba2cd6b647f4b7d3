import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock } from "#libs/clock/fake.ts";
import type { Clock } from "#libs/clock/index.ts";
import { steadyClock } from "./steady-clock.ts";

/** A machine that runs every timer 3 ms late. */
function lateClock(clock: FakeClock): Clock {
  return {
    now: () => clock.now(),
    monotonicMs: () => clock.monotonicMs(),
    after: (delayMs, callback) => clock.after(delayMs + 3, callback),
    every: (periodMs, callback) => clock.every(periodMs, callback),
    sleep: (delayMs) => clock.sleep(delayMs),
  };
}

test("a chain of timers makes up for a machine that runs each of them late", () => {
  const fake = new FakeClock();
  const steady = steadyClock(lateClock(fake));
  let ticks = 0;
  const tick = (): void => {
    ticks++;
    steady.after(10, tick);
  };
  steady.after(10, tick);
  fake.runUntil(fake.monotonicMs() + 1_000);
  assert.ok(ticks >= 98, `${ticks} ticks of 10 ms in a second`);
});

test("a delay asked for outside of any timer counts from now", () => {
  const fake = new FakeClock();
  const steady = steadyClock(fake);
  steady.after(10, () => {});
  fake.runUntil(fake.monotonicMs() + 500);
  const askedMs = fake.monotonicMs();
  let ranMs = 0;
  steady.after(20, () => (ranMs = fake.monotonicMs()));
  fake.runUntil(askedMs + 100);
  assert.equal(ranMs - askedMs, 20);
});
