import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "#libs/clock/fake.ts";
import type { Experiment } from "#libs/experiments/index.ts";
import { type Breach, ExperimentWatch } from "./experiment-watch.ts";
import { ended, failed } from "./fixture.ts";

const EXPERIMENT: Experiment = {
  name: "e",
  revision: 1,
  state: "running",
  model: "chat",
  unit: "user",
  layer: "chat",
  control: "control",
  arms: [
    { name: "control", weight: 0.5, ranges: [[0, 5_000]] },
    { name: "b", weight: 0.5, ranges: [[5_000, 10_000]], backends: ["gpu-b"] },
  ],
  guards: { errorRate: 0.005, ttft: 0.1, cost: undefined, quality: undefined, action: "rollback" },
  basis: "",
  history: [],
};

interface Run {
  readonly seed: number;
  /** Error rate of control and of b, and b's factor on the time to first token. */
  readonly errors: readonly [number, number];
  readonly factor: number;
  readonly most: number;
}

/** Outcomes per arm until the guards stop b; Infinity when they do not. 20 requests/s. */
function stoppedAfter({ seed, errors, factor, most }: Run): number {
  const random = new SeededRandom(seed);
  let breach: Breach | undefined;
  const watch = new ExperimentWatch((each) => (breach = each));
  for (let count = 1; count <= most; count++) {
    for (const [arm, rate] of [
      ["control", errors[0]],
      ["b", errors[1]],
    ] as const) {
      const spread = Math.exp(0.3 * (random.next() + random.next() + random.next() - 1.5) * 2);
      const ttftMs = 100 * spread * (arm === "b" ? factor : 1);
      watch.ended(EXPERIMENT, arm, random.next() < rate ? failed("UPSTREAM_UNAVAILABLE") : ended({ ttftMs }), count * 100);
    }
    if (breach !== undefined) return count;
  }
  return Number.POSITIVE_INFINITY;
}

function shareStopped(run: Omit<Run, "seed">, runs = 200): number {
  let stopped = 0;
  for (let seed = 1; seed <= runs; seed++) if (stoppedAfter({ ...run, seed }) <= run.most) stopped++;
  return stopped / runs;
}

test("ten failures in a row, or half of the last twenty, stop an arm without statistics, once", () => {
  const breaches: Breach[] = [];
  const watch = new ExperimentWatch((breach) => breaches.push(breach));
  for (let count = 0; count < 15; count++) watch.ended(EXPERIMENT, "b", failed("UPSTREAM_TIMEOUT"), count);
  assert.deepEqual(
    breaches.map(({ reason }) => reason),
    ["arm b: 10 failures in a row"],
  );
  watch.tellAgain("e");
  watch.ended(EXPERIMENT, "b", failed("UPSTREAM_TIMEOUT"), 20);
  assert.equal(breaches.length, 2);
  const other = new ExperimentWatch((breach) => breaches.push(breach));
  for (let count = 0; count < 20; count++) other.ended(EXPERIMENT, "b", count % 2 === 0 ? failed("UPSTREAM_TIMEOUT") : ended(), count);
  assert.equal(breaches[2]?.reason, "arm b: 10 of the last 20 failed");
});

test("an arm whose backends are all broken is stopped, the control arm never", () => {
  const breaches: Breach[] = [];
  const watch = new ExperimentWatch((breach) => breaches.push(breach));
  watch.broken(EXPERIMENT, "control");
  watch.broken({ ...EXPERIMENT, state: "rolled_back" }, "b");
  assert.deepEqual(breaches, []);
  watch.broken(EXPERIMENT, "b");
  watch.broken(EXPERIMENT, "b");
  assert.deepEqual(
    breaches.map(({ arm }) => arm),
    ["b"],
  );
});

test("an arm with 20 % errors is stopped within 200 requests per arm", (t) => {
  const share = shareStopped({ errors: [0.01, 0.2], factor: 1, most: 200 });
  t.diagnostic(`stopped in ${share * 100} % of 200 runs`);
  assert.ok(share >= 0.95);
});

test("an arm that is a quarter slower to its first token is stopped within 600 requests per arm", (t) => {
  const share = shareStopped({ errors: [0.01, 0.01], factor: 1.25, most: 600 });
  t.diagnostic(`stopped in ${share * 100} % of 200 runs`);
  assert.ok(share >= 0.95);
});

test("an arm whose errors rise from 1 % to 5 % is stopped", (t) => {
  const run = { errors: [0.01, 0.05], factor: 1 } as const;
  t.diagnostic(`stopped within 600 in ${shareStopped({ ...run, most: 600 }) * 100} % of 200 runs`);
  assert.ok(shareStopped({ ...run, most: 2_000 }) >= 0.95);
});

test("an arm that is no worse goes on", () => {
  assert.ok(shareStopped({ errors: [0.01, 0.01], factor: 1, most: 1_000 }) <= 0.05);
});
