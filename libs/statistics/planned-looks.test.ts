import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "#libs/clock/fake.ts";
import { FIRST_WINDOW_ALPHA, LATER_WINDOWS_ALPHA, noLooks, takeLook } from "./planned-looks.ts";
import { excessScore, normalTail } from "./proportions.ts";

const MARGIN = 0.005;

interface Run {
  readonly control: number;
  readonly treatment: number;
  /** Requests per treatment arm between two looks. */
  readonly gap: number;
  readonly most: number;
  /** Control requests to one of the treatment. */
  readonly ratio?: number;
}

/** Share of runs in which the looks found a breach. */
function shareFound(run: Run, runs: number, seed: number): number {
  const random = new SeededRandom(seed);
  const { ratio = 1 } = run;
  const draw = (count: number, share: number): number => {
    let hits = 0;
    for (let each = 0; each < count; each++) if (random.next() < share) hits++;
    return hits;
  };
  let found = 0;
  for (let each = 0; each < runs; each++) {
    let [failedA, failedB] = [0, 0];
    let looks = noLooks();
    for (let count = run.gap; count <= run.most; count += run.gap) {
      failedA += draw(run.gap * ratio, run.control);
      failedB += draw(run.gap, run.treatment);
      const look = takeLook(looks, { count: count * ratio, mean: failedA / (count * ratio) }, { count, mean: failedB / count }, MARGIN);
      looks = look.looks;
      if (!look.breach) continue;
      found++;
      break;
    }
  }
  return found / runs;
}

test("the score is the excess over its deviation at the likeliest shares that far apart", () => {
  // 10 and 30 of 600 with no margin: the likeliest common share is 20/600.
  const score = excessScore({ count: 600, mean: 10 / 600 }, { count: 600, mean: 30 / 600 }, 0);
  const spread = (2 * (20 / 600) * (580 / 600)) / 600;
  assert.ok(Math.abs(score - 20 / 600 / Math.sqrt(spread)) < 1e-6, `${score}`);
  assert.equal(excessScore({ count: 600, mean: 0.01 }, { count: 600, mean: 0.012 }, MARGIN), 0);
  assert.ok(excessScore({ count: 600, mean: 0 }, { count: 600, mean: 0.05 }, MARGIN) > 3);
});

test("the normal tail has the published values", () => {
  for (const [z, tail] of [
    [0, 0.5],
    [1.644854, 0.05],
    [-1.959964, 0.975],
    [3.090232, 0.001],
  ] as const)
    assert.ok(Math.abs(normalTail(z) - tail) < 1e-6, `${z}`);
});

test("a look wants another that agrees, and windows do not carry over", () => {
  const at = (count: number, mean: number): { count: number; mean: number } => ({ count, mean });
  const early = takeLook(noLooks(), at(299, 0.01), at(299, 0.2), MARGIN);
  assert.deepEqual(early, { looks: noLooks(), breach: false });
  const first = takeLook(early.looks, at(300, 0.01), at(300, 0.2), MARGIN);
  assert.equal(first.breach, false);
  assert.equal(takeLook(first.looks, at(325, 0.01), at(325, 0.2), MARGIN).breach, true);
  assert.equal(takeLook(first.looks, at(325, 0.01), at(325, 0.01), MARGIN).looks.beyond, false);
  const later = takeLook(first.looks, at(1_300, 0.01), at(1_300, 0.2), MARGIN);
  assert.deepEqual(later, { looks: { window: 1, taken: 1, beyond: true }, breach: false });
  let spent = noLooks();
  for (let look = 0; look < 13; look++) spent = takeLook(spent, at(300 + look, 0.01), at(300 + look, 0.01), MARGIN).looks;
  assert.deepEqual(takeLook(spent, at(400, 0.01), at(400, 0.5), MARGIN), { looks: spent, breach: false });
});

test("an arm that is worse by exactly the margin is stopped by chance no more often than said", (t) => {
  const spent = FIRST_WINDOW_ALPHA + LATER_WINDOWS_ALPHA;
  const slack = 3 * Math.sqrt((spent * (1 - spent)) / 4_000);
  for (const control of [0.001, 0.005, 0.03]) {
    for (const gap of [25, 100]) {
      const share = shareFound({ control, treatment: control + MARGIN, gap, most: 1_300 }, 4_000, 5);
      t.diagnostic(`control ${control * 100} %, a look every ${gap}: ${(share * 100).toFixed(2)} %`);
      assert.ok(share <= spent + slack, `${share}`);
    }
  }
  assert.ok(shareFound({ control: 0.01, treatment: 0.015, gap: 25, most: 1_300, ratio: 9 }, 1_000, 6) <= spent + 2 * slack);
});

test("a rise of errors from 1 % to 5 % is found within 600 requests per arm, nearly as often as a single test there would", (t) => {
  const runs = 2_000;
  const share = shareFound({ control: 0.01, treatment: 0.05, gap: 25, most: 600 }, runs, 9);
  // A single test at 600 that errs as rarely: the most that can be had.
  const random = new SeededRandom(9);
  let single = 0;
  for (let run = 0; run < runs; run++) {
    let [a, b] = [0, 0];
    for (let count = 0; count < 600; count++) {
      if (random.next() < 0.01) a++;
      if (random.next() < 0.05) b++;
    }
    if (normalTail(excessScore({ count: 600, mean: a / 600 }, { count: 600, mean: b / 600 }, MARGIN)) < FIRST_WINDOW_ALPHA) single++;
  }
  t.diagnostic(`found in ${((100 * share) / 1).toFixed(1)} %; by one test at 600: ${((100 * single) / runs).toFixed(1)} %`);
  assert.ok(share >= 0.94, `${share}`);
});
