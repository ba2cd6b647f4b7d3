import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "#libs/clock/fake.ts";
import type { Experiment } from "./experiment.ts";
import { analyseArm, guardStandings, isDue, noGuardMemory } from "./guards.ts";
import { Sampled, twoArms } from "./testing.ts";

interface Run {
  readonly seed: number;
  readonly experiment?: Experiment;
  /** Error rate of control and of b. */
  readonly errors: readonly [number, number];
  /** What b's time to first token, cost and quality are of the control's. */
  readonly ttft?: number;
  readonly cost?: number;
  readonly quality?: number;
  readonly most: number;
}

/** Requests per arm until a guard stops b; Infinity when none does. 20 requests a second, analysed as in the running system. */
function stoppedAfter(run: Run): number {
  const { errors, ttft = 1, cost = 1, quality = 0, experiment = twoArms() } = run;
  const random = new SeededRandom(run.seed);
  const sampled = new Sampled();
  let memory = noGuardMemory();
  for (let count = 1; count <= run.most; count++) {
    for (const [arm, rate] of [
      ["control", errors[0]],
      ["b", errors[1]],
    ] as const) {
      const isB = arm === "b";
      const bell = 2 * (random.next() + random.next() + random.next() - 1.5);
      const failed = random.next() < rate;
      sampled.add(arm, "error", failed ? 1 : 0);
      if (!failed) sampled.add(arm, "ttft", Math.log(100 * (isB ? ttft : 1)) + 0.3 * bell);
      sampled.add(arm, "cost", 1e6 * (isB ? cost : 1) * Math.exp(0.3 * bell));
      sampled.add(arm, "quality", Math.min(1, Math.max(0, 0.8 + (isB ? quality : 0) + 0.1 * bell)));
    }
    if (!isDue(memory, sampled.observations, "b", count * 100)) continue;
    const analysis = analyseArm(experiment, sampled.observations, "b", memory, count * 100);
    memory = analysis.memory;
    if (analysis.guards.some(({ status }) => status === "breached")) return count;
  }
  return Number.POSITIVE_INFINITY;
}

function shareStopped(run: Omit<Run, "seed">, runs: number): number {
  let stopped = 0;
  for (let seed = 1; seed <= runs; seed++) if (stoppedAfter({ ...run, seed }) <= run.most) stopped++;
  return stopped / runs;
}

const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;

/** Worse arms that guards must stop in at least 95 of 100 runs, and by when. */
const FOUND: readonly (readonly [what: string, run: Omit<Run, "seed">])[] = [
  ["20 % errors within 200 requests per arm", { errors: [0.01, 0.2], most: 200 }],
  ["errors from 1 % to 5 % within 600 requests per arm", { errors: [0.01, 0.05], most: 600 }],
  ["a time to first token a quarter longer within 600 requests per arm", { errors: [0.01, 0.01], ttft: 1.25, most: 600 }],
];

for (const [what, run] of FOUND) {
  test(`a guard stops an arm by itself: ${what}`, (t) => {
    const share = shareStopped(run, 200);
    t.diagnostic(`stopped in ${percent(share)} of 200 runs, in ${percent(shareStopped(run, 1_000))} of 1,000`);
    assert.ok(share >= 0.95, percent(share));
  });
}

test("cost and quality are guarded as well", (t) => {
  const experiment = twoArms({ guards: { errorRate: 0.005, ttft: 0.1, cost: 0.1, quality: -0.02, action: "rollback" } });
  const dearer = shareStopped({ experiment, errors: [0.01, 0.01], cost: 1.3, most: 600 }, 100);
  const worse = shareStopped({ experiment, errors: [0.01, 0.01], quality: -0.1, most: 600 }, 100);
  t.diagnostic(`30 % dearer: ${percent(dearer)}, quality 0.8 -> 0.7: ${percent(worse)}`);
  assert.ok(dearer >= 0.95 && worse >= 0.95);
});

test("an arm that is no worse is stopped in no more than 5 % of 1,000 experiments that are looked at all the time", (t) => {
  const experiment = twoArms({ guards: { errorRate: 0.005, ttft: 0.1, cost: 0.1, quality: -0.02, action: "rollback" } });
  const share = shareStopped({ experiment, errors: [0.01, 0.01], most: 1_500 }, 1_000);
  t.diagnostic(`all four guards, margins as in the example: ${percent(share)} of 1,000`);
  assert.ok(share <= 0.05);
  const bare = twoArms({ guards: { errorRate: 0, ttft: 0, cost: 0, quality: -0, action: "rollback" } });
  const without = shareStopped({ experiment: bare, errors: [0.01, 0.01], most: 1_500 }, 1_000);
  t.diagnostic(`the same with no margin at all: ${percent(without)} of 1,000`);
  assert.ok(without <= 0.05);
});

test("a sequence beyond its margin must be so twice in a row, and a guard says why", () => {
  const sampled = new Sampled();
  const grow = (): void => {
    for (let count = 0; count < 60; count++) {
      sampled.add("control", "error", 0);
      sampled.add("b", "error", count % 3 === 0 ? 1 : 0);
    }
  };
  grow();
  const first = analyseArm(twoArms(), sampled.observations, "b", noGuardMemory(), 1_000);
  assert.deepEqual(
    first.guards.map(({ guard, status }) => [guard, status]),
    [
      ["error_rate", "inconclusive"],
      ["ttft", "waiting"],
    ],
  );
  grow();
  const second = analyseArm(twoArms(), sampled.observations, "b", first.memory, 2_000);
  assert.equal(second.guards[0]?.reason, "error rate 33.3 %, control 0.0 %");
  assert.equal(guardStandings(twoArms(), sampled.observations, "b")[0]?.status, "breached");
});

test("an arm is analysed after 25 outcomes more, once a second", () => {
  const sampled = new Sampled();
  for (let count = 0; count < 25; count++) sampled.add("b", "error", 0);
  assert.equal(isDue(noGuardMemory(), sampled.observations, "b", 999), false);
  assert.equal(isDue(noGuardMemory(), sampled.observations, "b", 1_000), true);
  assert.equal(isDue({ ...noGuardMemory(), outcomes: 1 }, sampled.observations, "b", 1_000), false);
});
