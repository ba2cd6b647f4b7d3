import assert from "node:assert/strict";
import { test } from "node:test";
import { inversions, kendallTau } from "./ordering.ts";

test("rankings that agree have tau 1, reversed ones -1, one swapped pair of four 2/3", () => {
  assert.equal(kendallTau([4, 3, 2, 1], [40, 30, 20, 10]), 1);
  assert.equal(kendallTau([4, 3, 2, 1], [1, 2, 3, 4]), -1);
  assert.ok(Math.abs(kendallTau([4, 3, 2, 1], [4, 2, 3, 1]) - 2 / 3) < 1e-12);
});

test("a pair that is a tie in one ranking only keeps tau below 1", () => {
  const tau = kendallTau([3, 2, 1], [3, 2, 2]);
  assert.ok(tau > 0.7 && tau < 1, `${tau}`);
  assert.equal(kendallTau([3, 2, 1], [3, 2, 2], 5), 0);
});

test("an inversion is a pair that both order clearly, and differently", () => {
  assert.deepEqual(inversions([90, 80, 79], [91, 78, 80], 1.5), []);
  assert.deepEqual(inversions([90, 80, 70], [91, 70, 80], 1.5), [[1, 2]]);
});
