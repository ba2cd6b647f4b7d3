/** Below this probability an assignment does not follow its weights: the comparison is invalid. */
export const SRM_P = 0.001;

const ITERATIONS_MAX = 1_000;
const PRECISION = 1e-14;

/** Lanczos coefficients (g = 7, n = 9). */
const LANCZOS = [
  0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059, 12.507343278686905,
  -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
] as const;

function logGamma(value: number): number {
  if (value < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * value)) - logGamma(1 - value);
  const x = value - 1;
  let sum: number = LANCZOS[0];
  for (let index = 1; index < LANCZOS.length; index++) sum += LANCZOS[index]! / (x + index);
  const t = x + 7.5;
  return 0.5 * Math.log(2 * Math.PI) + (x + 0.5) * Math.log(t) - t + Math.log(sum);
}

/** Upper tail of the chi-square distribution: the chance of a statistic of at least `statistic`, with `degrees` degrees of freedom. */
export function chiSquareTail(statistic: number, degrees: number): number {
  if (!(statistic > 0) || degrees < 1) return 1;
  const a = degrees / 2;
  const x = statistic / 2;
  const factor = Math.exp(-x + a * Math.log(x) - logGamma(a));
  return x < a + 1 ? 1 - factor * lowerSeries(a, x) : factor * upperFraction(a, x);
}

/** Series of the lower incomplete gamma function, without its factor. */
function lowerSeries(a: number, x: number): number {
  let term = 1 / a;
  let sum = term;
  for (let n = 1; n < ITERATIONS_MAX && Math.abs(term) > Math.abs(sum) * PRECISION; n++) {
    term *= x / (a + n);
    sum += term;
  }
  return sum;
}

/** Continued fraction of the upper incomplete gamma function (Lentz), without its factor. */
function upperFraction(a: number, x: number): number {
  let b = x + 1 - a;
  let c = Number.MAX_VALUE;
  let d = 1 / b;
  let h = d;
  for (let n = 1; n < ITERATIONS_MAX; n++) {
    const an = -n * (n - a);
    b += 2;
    d = 1 / (an * d + b);
    c = b + an / c;
    const delta = d * c;
    h *= delta;
    if (Math.abs(delta - 1) < PRECISION) break;
  }
  return h;
}

/** Sample-ratio check: the chance of counts this far from the weights by luck alone. 1 with fewer than two arms in use or no units. */
export function sampleRatioP(counts: readonly number[], weights: readonly number[]): number {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const weight = weights.reduce((sum, each) => sum + each, 0);
  if (total === 0 || weight === 0) return 1;
  let statistic = 0;
  let arms = 0;
  for (const [index, share] of weights.entries()) {
    const count = counts[index] ?? 0;
    if (share === 0) {
      if (count > 0) return 0;
      continue;
    }
    const expected = (total * share) / weight;
    statistic += (count - expected) ** 2 / expected;
    arms++;
  }
  return arms < 2 ? 1 : chiSquareTail(statistic, arms - 1);
}
