import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock, SeededRandom } from "./fake.ts";
import { createUuidV7 } from "./uuid.ts";

test("virtual time fires timers in order of time, then of registration", () => {
  const clock = new FakeClock();
  const fired: string[] = [];
  clock.after(20, () => fired.push("late"));
  clock.after(10, () => fired.push("first"));
  clock.after(10, () => fired.push("second"));
  clock.after(15, () => fired.push("cancelled")).cancel();
  clock.advance(30);
  assert.deepEqual(fired, ["first", "second", "late"]);
  assert.equal(clock.monotonicMs(), 30);
});

test("a periodic timer fires once per period until cancelled", () => {
  const clock = new FakeClock();
  let count = 0;
  const timer = clock.every(10, () => count++);
  clock.advance(35);
  timer.cancel();
  clock.advance(100);
  assert.equal(count, 3);
});

test("the same seed gives the same numbers and stays within bounds", () => {
  const a = new SeededRandom(7);
  const b = new SeededRandom(7);
  for (let round = 0; round < 1000; round++) {
    const value = a.next();
    assert.equal(value, b.next());
    assert.ok(value >= 0 && value < 1);
  }
});

test("uuids are version 7, unique and ascending, even in one millisecond", () => {
  const draw = createUuidV7(new FakeClock(), new SeededRandom(1));
  let last = "";
  for (let round = 0; round < 10_000; round++) {
    const id = draw();
    assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.ok(id > last, `${id} after ${last}`);
    last = id;
  }
});
