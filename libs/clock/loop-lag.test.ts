import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock } from "./fake.ts";
import { watchLoopLag } from "./loop-lag.ts";

test("a loop nobody measured yet counts as on time, and no measurement is negative or not a number", () => {
  const clock = new FakeClock();
  const lag = watchLoopLag(clock);
  assert.equal(lag.lagMs, 0);
  clock.advance(1_500);
  assert.ok(lag.lagMs >= 0);
  clock.advance(10_000);
  assert.ok(lag.lagMs >= 0);
});
