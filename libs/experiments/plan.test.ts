import assert from "node:assert/strict";
import { test } from "node:test";
import { compareArms, sampleRatio } from "./compare.ts";
import type { GuardStanding } from "./guards.ts";
import { mergeObservations, momentsOf, runOf, storedObservations } from "./observations.ts";
import { planMove, stepStart } from "./plan.ts";
import { Sampled, twoArms } from "./testing.ts";

const PLANNED = twoArms({ plan: { steps: [0.01, 0.05, 1], step: 0, stepMs: 60_000, stepRequests: 100 } });

function guard(status: GuardStanding["status"]): GuardStanding {
  return { guard: "error_rate", margin: 0.005, status, reason: "" };
}

function seen(outcomes: number): Sampled {
  const sampled = new Sampled();
  for (const arm of ["control", "b"]) for (let count = 0; count < outcomes; count++) sampled.add(arm, "error", 0);
  return sampled;
}

test("a step lasts its time, sees its requests, and then the next one comes; after the last the arm has everything", () => {
  const start = stepStart(PLANNED, seen(40).observations, undefined, 1_000);
  const move = (outcomes: number, nowMs: number, experiment = PLANNED): unknown =>
    planMove(experiment, seen(outcomes).observations, [guard("within")], 1, start, nowMs);
  assert.deepEqual(move(500, 60_999), { kind: "wait" });
  assert.deepEqual(move(139, 61_000), { kind: "wait" });
  assert.deepEqual(move(140, 61_000), { kind: "advance", arm: "b", share: 0.05 });
  const last = { ...PLANNED, plan: { ...PLANNED.plan!, step: 1 } };
  assert.deepEqual(move(140, 61_000, last), { kind: "advance", arm: "b", share: 1 });
  assert.deepEqual(move(140, 61_000, { ...PLANNED, state: "paused" }), { kind: "wait" });
});

test("what is inconclusive, skewed or too little is a pause and no pass", () => {
  const start = stepStart(PLANNED, seen(0).observations, undefined, 0);
  const at = (outcomes: number, status: GuardStanding["status"], ratio: number, nowMs: number): unknown =>
    planMove(PLANNED, seen(outcomes).observations, [guard(status)], ratio, start, nowMs);
  assert.deepEqual(at(200, "inconclusive", 1, 60_000), { kind: "pause", reason: "step 1: error_rate is inconclusive" });
  assert.deepEqual(at(200, "within", 1e-6, 60_000), { kind: "pause", reason: "step 1: the assignment does not follow the weights" });
  assert.deepEqual(at(10, "within", 1, 359_999), { kind: "wait" });
  assert.deepEqual(at(10, "within", 1, 360_000), { kind: "pause", reason: "step 1: only 10 of 100 requests per arm" });
  assert.deepEqual(at(200, "waiting", 1, 359_999), { kind: "wait" });
  assert.deepEqual(at(200, "waiting", 1, 360_000), { kind: "pause", reason: "step 1: too few samples for error_rate" });
});

test("what several engines saw adds up, and units of another revision do not count", () => {
  const one = seen(10);
  one.assign("b", 7);
  const two = seen(5);
  two.assign("b", 3);
  const stored = [storedObservations(one.observations, 2), JSON.parse(JSON.stringify(storedObservations(two.observations, 1)))];
  const merged = mergeObservations(stored, 2);
  assert.deepEqual([merged.get("b")?.units, momentsOf(merged, "b", "error").count], [7, 15]);
});

test("a comparison shows every metric with its bounds, and differences of times and money as ratios", () => {
  const sampled = new Sampled();
  for (let count = 0; count < 2_000; count++) {
    const wave = Math.sin(count);
    sampled.add("control", "ttft", Math.log(100) + 0.2 * wave);
    sampled.add("b", "ttft", Math.log(120) + 0.2 * wave);
    sampled.add("control", "cost", 1_000 + 100 * wave);
    sampled.add("b", "cost", 800 + 100 * wave);
    sampled.add("b", "schema_valid", 1);
  }
  const [control, b] = compareArms(twoArms(), sampled.observations);
  assert.deepEqual(
    control!.metrics.map(({ metric, interval }) => [metric, interval]),
    [
      ["ttft", undefined],
      ["cost", undefined],
    ],
  );
  const [ttft, cost, schema] = b!.metrics;
  assert.ok(Math.abs(ttft!.mean - 120) < 1 && Math.abs(ttft!.interval!.difference - 0.2) < 0.01);
  assert.ok(ttft!.interval!.lower > 0.15 && ttft!.interval!.upper < 0.25);
  assert.ok(Math.abs(cost!.interval!.difference + 0.2) < 0.001);
  assert.ok(cost!.interval!.lower < -0.2 && cost!.interval!.upper > -0.2 && cost!.interval!.upper < -0.18);
  assert.deepEqual([schema!.metric, schema!.interval], ["schema_valid", undefined]);
});

test("units that do not follow the weights show, but not those that several engines may have counted twice", () => {
  const sampled = new Sampled();
  sampled.assign("control", 5_250);
  sampled.assign("b", 4_750);
  assert.ok(sampleRatio(twoArms(), sampled.observations, 1) < 0.001);
  assert.ok(sampleRatio(twoArms(), sampled.observations, 4) > 0.001);
});

test("a run begins with its start", () => {
  assert.equal(runOf(twoArms({ basis: "x", revision: 4, startedRevision: 3 })), "x/3");
});
