import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock, SeededRandom } from "#libs/clock/fake.ts";
import { NO_FAULTS } from "./plan.ts";
import { FaultRegistry } from "./registry.ts";

function create(): { clock: FakeClock; faults: FaultRegistry; strikes: () => boolean } {
  const clock = new FakeClock();
  const faults = new FaultRegistry(clock, new SeededRandom(1));
  return { clock, faults, strikes: () => faults.strike(undefined, true) !== NO_FAULTS };
}

test("a fault ends after its time", () => {
  const { clock, faults, strikes } = create();
  faults.add("error", { forMs: 1000 });
  assert.equal(strikes(), true);
  clock.advance(999);
  assert.equal(strikes(), true);
  clock.advance(1);
  assert.equal(strikes(), false);
  assert.deepEqual(faults.list(), []);
});

test("a flapping fault acts first, then rests, and so on until its time is over", () => {
  const { clock, faults } = create();
  faults.add("refuse", { downMs: 50, upMs: 100, forMs: 400 });
  const active: boolean[] = [];
  for (let at = 0; at < 450; at += 50, clock.advance(50)) active.push(faults.isActive("refuse") !== undefined);
  assert.deepEqual(active, [true, false, false, true, false, false, true, false, false]);
  assert.equal(faults.isPending("refuse"), false);
});

test("a fault of the same kind replaces the one before, others join", () => {
  const { faults } = create();
  faults.add("slow", { factor: 2 });
  faults.add("slow", { factor: 5 });
  faults.add("cut", { afterTokens: 9 });
  const plan = faults.strike(undefined, true);
  assert.deepEqual([plan.slowFactor, plan.cut?.afterTokens, plan.names], [5, 9, "slow,cut"]);
  assert.equal(faults.strike("malformed", true).cut?.kind, "malformed");
  assert.deepEqual([faults.strike(undefined, false).slowFactor, faults.strike(undefined, false).cut], [5, undefined]);
});

test("a probability strikes its share", () => {
  const { faults, strikes } = create();
  faults.add("error", { p: 0.2 });
  let struck = 0;
  for (let round = 0; round < 2000; round++) if (strikes()) struck++;
  assert.ok(struck > 340 && struck < 460, String(struck));
});

test("a request nothing strikes costs no plan of its own", () => {
  assert.equal(create().faults.strike(undefined, true), NO_FAULTS);
});
