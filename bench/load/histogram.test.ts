import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "#libs/clock/fake.ts";
import { Histogram } from "./histogram.ts";

test("quantiles lie within 1.6 % of the sorted truth over six orders of magnitude", () => {
  const random = new SeededRandom(7);
  const histogram = new Histogram();
  const values = Array.from({ length: 20_000 }, () => 10 ** (random.next() * 6 - 2));
  for (const value of values) histogram.record(value);
  values.sort((a, b) => a - b);
  for (const ratio of [0.01, 0.5, 0.9, 0.99, 0.999]) {
    const truth = values[Math.ceil(ratio * values.length) - 1]!;
    assert.ok(
      Math.abs(histogram.quantile(ratio) - truth) <= Math.max(0.001, truth * 0.016),
      `${ratio}: ${histogram.quantile(ratio)} ${truth}`,
    );
  }
});

test("every microsecond of the first milliseconds falls into a bucket near it", () => {
  for (let us = 0; us < 5000; us++) {
    const histogram = new Histogram();
    histogram.record(us / 1000);
    histogram.record(1e6);
    const error = Math.abs(histogram.quantile(0.5) * 1000 - us);
    assert.ok(error <= us / 64 + 1e-6, `${us} us: ${error}`);
  }
});

test("merging is the same as recording everything in one", () => {
  const [one, two, both] = [new Histogram(), new Histogram(), new Histogram()];
  for (let index = 0; index < 1000; index++) {
    (index % 2 === 0 ? one : two).record(index * 0.37);
    both.record(index * 0.37);
  }
  one.merge(two);
  assert.deepEqual(one.percentiles(), both.percentiles());
});

test("an empty histogram is all zero, an absurd time is kept at the end of the range", () => {
  const histogram = new Histogram();
  assert.equal(histogram.percentiles().p99, 0);
  histogram.record(-1);
  histogram.record(1e15);
  assert.equal(histogram.quantile(0.5), 0);
  assert.equal(histogram.percentiles().max, 1e15);
});
