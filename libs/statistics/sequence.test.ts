import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "#libs/clock/fake.ts";
import { chiSquareTail, sampleRatioP, SRM_P } from "./chi-square.ts";
import { addMoments, addSample, emptyMoments, variance } from "./moments.ts";
import { confidenceSequence, oneSidedSequence, SAMPLES_MIN, TUNED_FOR } from "./sequence.ts";

const ALPHA = 0.05;
const EXPERIMENTS = 1_000;
const SAMPLES = 1_000;

test("streamed moments are those of the whole, also when streams are joined", () => {
  const values = [2, 4, 4, 4, 5, 5, 7, 9];
  const [whole, left, right] = [emptyMoments(), emptyMoments(), emptyMoments()];
  for (const [index, value] of values.entries()) {
    addSample(whole, value);
    addSample(index < 3 ? left : right, value);
  }
  assert.equal(whole.mean, 5);
  assert.ok(Math.abs(variance(whole) - 32 / 7) < 1e-12);
  const joined = addMoments(left, right);
  assert.ok(Math.abs(joined.mean - 5) < 1e-12 && Math.abs(joined.m2 - whole.m2) < 1e-9);
});

test("the chi-square tail has the published critical values", () => {
  const table: readonly [number, number, number][] = [
    [3.841459, 1, 0.05],
    [6.634897, 1, 0.01],
    [10.827566, 1, 0.001],
    [5.991465, 2, 0.05],
    [18.307038, 10, 0.05],
    [29.588298, 10, 0.001],
    [124.342113, 100, 0.05],
    [0.454936, 1, 0.5],
  ];
  for (const [statistic, degrees, p] of table) {
    assert.ok(Math.abs(chiSquareTail(statistic, degrees) - p) < p * 1e-5, `${statistic} ${degrees} ${chiSquareTail(statistic, degrees)}`);
  }
});

test("a skewed assignment shows, a fair one does not, and nobody may land in an arm without weight", () => {
  assert.ok(sampleRatioP([50_000, 48_500], [0.5, 0.5]) < SRM_P);
  assert.ok(sampleRatioP([50_050, 49_950], [0.5, 0.5]) > 0.5);
  assert.equal(sampleRatioP([100, 1], [1, 0]), 0);
});

test("continuous peeking raises no more false alarms than alpha", (t) => {
  const random = new SeededRandom(11);
  const alarms = { naive: 0, two: 0, one: 0 };
  for (let run = 0; run < EXPERIMENTS; run++) {
    const [a, b] = [emptyMoments(), emptyMoments()];
    const seen = { naive: false, two: false, one: false };
    for (let n = 1; n <= SAMPLES; n++) {
      addSample(a, random.next() < 0.1 ? 1 : 0);
      addSample(b, random.next() < 0.1 ? 1 : 0);
      if (n < SAMPLES_MIN.guard) continue;
      const two = confidenceSequence(a, b, ALPHA, TUNED_FOR.guard)!;
      if (two.lower > 0 || two.upper < 0) seen.two = true;
      if (oneSidedSequence(a, b, ALPHA, TUNED_FOR.guard)!.lower > 0) seen.one = true;
      const error = Math.sqrt(variance(a) / n + variance(b) / n);
      if (Math.abs(b.mean - a.mean) > 1.959964 * error) seen.naive = true;
    }
    for (const kind of ["naive", "two", "one"] as const) if (seen[kind]) alarms[kind]++;
  }
  const rate = (count: number): string => `${((100 * count) / EXPERIMENTS).toFixed(1)} %`;
  t.diagnostic(`false alarms: sequence ${rate(alarms.two)}, one-sided ${rate(alarms.one)}, naive test ${rate(alarms.naive)}`);
  assert.ok(alarms.two <= ALPHA * EXPERIMENTS);
  assert.ok(alarms.one <= ALPHA * EXPERIMENTS);
  assert.ok(alarms.naive > 3 * ALPHA * EXPERIMENTS, "the naive test must show why this is needed");
});

test("a real difference is found, and the sequence covers it", () => {
  const random = new SeededRandom(3);
  const [a, b] = [emptyMoments(), emptyMoments()];
  for (let n = 0; n < 2_000; n++) {
    addSample(a, random.next());
    addSample(b, random.next() + 0.1);
  }
  const interval = confidenceSequence(a, b, ALPHA, TUNED_FOR.success)!;
  assert.ok(interval.lower > 0 && interval.lower < 0.1 && interval.upper > 0.1);
  assert.ok(oneSidedSequence(a, b, ALPHA, TUNED_FOR.guard)!.lower > 0.05);
  assert.equal(confidenceSequence(emptyMoments(), b, ALPHA, TUNED_FOR.guard), undefined);
});
