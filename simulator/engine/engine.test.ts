import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock } from "#libs/clock/fake.ts";
import type { SpeedProfile } from "../profile.ts";
import { Engine, type Job } from "./engine.ts";

/** An engine without noise: 10 ms overhead, iterations of 5 ms + 0.1 a token of prompt + 1 a sequence. */
const SPEED: SpeedProfile = {
  kind: "engine",
  overheadMs: 10,
  baseMs: 5,
  prefillMsPerToken: 0.1,
  decodeMsPerSequence: 1,
  kvMsPerToken: 0,
  maxSequences: 2,
  kvCapacityTokens: 1000,
  sigma: 0,
};

interface Run {
  readonly job: Job;
  readonly times: number[];
  readonly counts: number[];
  finished: boolean;
}

function run(clock: FakeClock, fields: Partial<Job> = {}): Run {
  const times: number[] = [];
  const counts: number[] = [];
  const state: Run = {
    times,
    counts,
    finished: false,
    job: {
      promptTokens: 100,
      uncachedTokens: 100,
      steps: 3,
      sequences: 1,
      priority: 0,
      slowFactor: 1,
      batch: 1,
      sink: {
        tokens: (upTo) => {
          times.push(Math.round(clock.monotonicMs()));
          counts.push(upTo);
          return true;
        },
        done: () => (state.finished = true),
      },
      ...fields,
    },
  };
  return state;
}

test("a lone request waits for overhead, prompt and iteration, then an iteration per token", () => {
  const clock = new FakeClock();
  const engine = new Engine(clock, 1, SPEED, 1);
  const one = run(clock);
  engine.submit(one.job);
  assert.deepEqual([engine.running, engine.waiting, engine.kvTokens], [1, 0, 100]);
  clock.advance(100);
  assert.deepEqual(one.times, [26, 32, 38]);
  assert.deepEqual(one.counts, [1, 2, 3]);
  assert.ok(one.finished);
  assert.deepEqual([engine.running, engine.kvTokens, engine.kvUsage], [0, 0, 0]);
});

test("cached prompt tokens are not computed, a time scale shortens everything, slowness lengthens it", () => {
  const first = (fields: Partial<Job>, scale: number): number => {
    const clock = new FakeClock();
    const one = run(clock, fields);
    new Engine(clock, 1, SPEED, scale).submit(one.job);
    clock.advance(1000);
    return one.times[0]!;
  };
  assert.equal(first({ uncachedTokens: 0 }, 1), 16);
  assert.equal(first({}, 0.5), 13);
  assert.equal(first({ slowFactor: 10 }, 1), 260);
});

test("a full batch makes others wait, the more urgent ones first, and slows those who run", () => {
  const clock = new FakeClock();
  const engine = new Engine(clock, 1, SPEED, 1);
  const runs = [run(clock), run(clock), run(clock, { priority: 5 }), run(clock, { priority: 1 })];
  for (const { job } of runs) engine.submit(job);
  assert.deepEqual([engine.running, engine.waiting], [2, 2]);
  clock.advance(500);
  assert.ok(runs.every(({ finished }) => finished));
  assert.ok(runs[3]!.times[0]! < runs[2]!.times[0]!, "priority 1 before 5");
  assert.equal(runs[1]!.times[1]! - runs[1]!.times[0]!, 7);
});

test("a prompt that does not fit the KV cache waits until it does", () => {
  const clock = new FakeClock();
  const engine = new Engine(clock, 1, SPEED, 1);
  const big = run(clock, { promptTokens: 800, uncachedTokens: 800 });
  const second = run(clock, { promptTokens: 200, uncachedTokens: 200 });
  engine.submit(big.job);
  engine.submit(second.job);
  assert.equal(engine.waiting, 1);
  assert.equal(engine.kvUsage, 0.8);
  clock.advance(1000);
  assert.ok(second.times[0]! > big.times[2]!);
});

test("cancelling frees the place, whether waiting or running, and says nothing more", () => {
  const clock = new FakeClock();
  const engine = new Engine(clock, 1, SPEED, 1);
  const runs = [run(clock), run(clock), run(clock), run(clock)];
  const jobs = runs.map(({ job }) => engine.submit(job));
  jobs[2]!.cancel();
  assert.equal(jobs[2]!.started, false);
  jobs[0]!.cancel();
  assert.deepEqual([engine.running, engine.waiting], [2, 0]);
  clock.advance(500);
  assert.deepEqual(
    runs.map(({ finished }) => finished),
    [false, true, false, true],
  );
  assert.deepEqual([engine.running, engine.kvTokens], [0, 0]);
});

test("a paused job computes nothing until resumed", () => {
  const clock = new FakeClock();
  const engine = new Engine(clock, 1, SPEED, 1);
  const seen: number[] = [];
  const paused = run(clock, { sink: { tokens: (upTo) => (seen.push(upTo), upTo !== 1), done: () => undefined } });
  const job = engine.submit(paused.job);
  clock.advance(1000);
  assert.deepEqual(seen, [1]);
  job.resume();
  clock.advance(1000);
  assert.equal(seen.at(-1), 3);
});

test("where nobody watches, tokens come in batches that take as long", () => {
  const clock = new FakeClock();
  const one = run(clock, { steps: 40, batch: 16 });
  new Engine(clock, 1, SPEED, 1).submit(one.job);
  clock.advance(1000);
  assert.deepEqual(one.counts, [16, 32, 40]);
  assert.equal(one.times.at(-1), 26 + 39 * 6);
});

test("a cloud is as quick for many as for one; fast is done at once", () => {
  const clock = new FakeClock();
  const cloud = new Engine(clock, 1, { kind: "cloud", ttftMs: 100, ttftSigma: 0, itlMs: 10, itlSigma: 0 }, 1);
  const runs = Array.from({ length: 50 }, () => run(clock));
  for (const { job } of runs) cloud.submit(job);
  clock.advance(500);
  assert.ok(runs.every(({ times }) => times.join() === "100,110,120"));
  const fast = run(clock);
  new Engine(clock, 1, { kind: "fast" }, 1).submit(fast.job);
  assert.deepEqual([fast.finished, fast.counts], [true, [3]]);
});

test("times spread log-normally around the median, and a seed repeats them", () => {
  const medians = [1, 1, 2].map((seed) => {
    const clock = new FakeClock();
    const engine = new Engine(clock, seed, { kind: "cloud", ttftMs: 100, ttftSigma: 0.5, itlMs: 1, itlSigma: 0 }, 1);
    const runs = Array.from({ length: 301 }, () => run(clock));
    for (const { job } of runs) engine.submit(job);
    clock.advance(10_000);
    return runs.map(({ times }) => times[0]!).sort((left, right) => left - right)[150]!;
  });
  assert.equal(medians[0], medians[1]);
  assert.notEqual(medians[0], medians[2]);
  for (const median of medians) assert.ok(median > 85 && median < 117, String(median));
});
