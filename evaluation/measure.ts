import type { PoolRequest } from "./pool.ts";
import { type RouterEntry, routerOf } from "./routers.ts";
import type { Effort, ScenarioContext } from "./scenario.ts";
import { type Score, scoreOf } from "./score.ts";
import { intervalOf, type Interval, pairedDifference } from "./statistics.ts";
import type { PoolSpec } from "./testbed.ts";
import type { Trace, TraceName } from "./trace.ts";
import { requestsOf, slicesOf, type Slo, SLOS } from "./workload.ts";

/** One repetition of a measurement: a slice of a trace and a seed. */
export interface Case {
  readonly requests: readonly PoolRequest[];
  readonly slice: number;
  readonly seed: number;
}

/** Figures of one run. */
export interface Sample extends Score {
  readonly slice: number;
  readonly hitRate: number;
  /** Requests that ended in an error. */
  readonly errors: number;
}

/** Slices that a trace is cut into: their number, and most requests in each. */
export function sliceCount(effort: Effort): number {
  return effort.quick ? 3 : 6;
}

const SLICE_MAX = 3_200;
const SLICE_MAX_QUICK = 1_200;

/** Slices times seeds of a trace: all at one rate, or each slice at its own. */
export function casesOf(
  effort: Effort,
  trace: Trace,
  ratePerS: number | readonly number[],
  slo: Slo = SLOS[trace.name as TraceName],
): Case[] {
  return slicesFor(effort, trace).flatMap((slice, at) => {
    const rate = typeof ratePerS === "number" ? ratePerS : ratePerS[at]!;
    const requests = requestsOf(trace, { ...slice, ratePerS: rate }, slo);
    return Array.from({ length: effort.seeds }, (_, seed) => ({ requests, slice: at, seed: 1 + at * 100 + seed }));
  });
}

function slicesFor(effort: Effort, trace: Trace): ReturnType<typeof slicesOf> {
  return slicesOf(trace, sliceCount(effort), effort.quick ? SLICE_MAX_QUICK : SLICE_MAX);
}

/** Runs a router over all cases. */
export async function measure(
  context: ScenarioContext,
  pool: PoolSpec,
  router: RouterEntry,
  cases: readonly Case[],
  slo: Slo,
): Promise<Sample[]> {
  const samples: Sample[] = [];
  const policy = { ttftSloMs: slo.ttftMs, tpotSloMs: slo.tpotMs };
  for (const { requests, slice, seed } of cases) {
    const { results, bed, hitRate } = await context.run({ pool, router, requests, policy, seed });
    samples.push({ ...scoreOf(results, bed.backends.length), slice, hitRate, errors: results.filter(({ error }) => error !== "").length });
  }
  return samples;
}

/** Means of one figure by slice: seeds of one slice are not independent, so they count as one value. */
function bySlice(samples: readonly Sample[], figure: (sample: Sample) => number): number[] {
  const sums = new Map<number, { sum: number; count: number }>();
  for (const sample of samples) {
    const entry = sums.get(sample.slice) ?? { sum: 0, count: 0 };
    entry.sum += figure(sample);
    entry.count++;
    sums.set(sample.slice, entry);
  }
  return [...sums.values()].map(({ sum, count }) => sum / count);
}

/** Interval of one figure over slices. */
export function over(samples: readonly Sample[], figure: (sample: Sample) => number): Interval {
  return intervalOf(bySlice(samples, figure));
}

/** Percentage points by which `a` meets the targets more often than `b`, on the same slices: their common ups and downs cancel. */
export function aheadBy(a: readonly Sample[], b: readonly Sample[]): Interval {
  return pairedDifference(
    bySlice(a, ({ attainment }) => attainment * 100),
    bySlice(b, ({ attainment }) => attainment * 100),
  );
}

/** Steps of the search for a rate: the interval shrinks to a hundredth. */
const SEARCH_STEPS = 7;

/** Runs of the search for rates. */
export function searchRuns(effort: Effort): number {
  return SEARCH_STEPS * sliceCount(effort);
}

/**
 * For each slice the rate between `low` and `high` a second at which least-connections meets the targets for `goal` of its requests.
 * Slices differ in what they ask of the machines; at one rate for all, some would be idle and others hopeless, whoever routes.
 */
export async function ratesWhere(
  context: ScenarioContext,
  pool: PoolSpec,
  trace: Trace,
  goal: number,
  [low, high]: readonly [number, number],
): Promise<number[]> {
  const slo = SLOS[trace.name as TraceName];
  const rates: number[] = [];
  for (const [at, slice] of slicesFor(context, trace).entries()) {
    let [from, to] = [low, high];
    for (let step = 0; step < SEARCH_STEPS; step++) {
      const middle = Math.sqrt(from * to);
      const one = { requests: requestsOf(trace, { ...slice, ratePerS: middle }, slo), slice: at, seed: 1 };
      const [sample] = await measure(context, pool, routerOf("least-connections"), [one], slo);
      if (sample!.attainment >= goal) from = middle;
      else to = middle;
    }
    rates.push(Math.sqrt(from * to));
  }
  return rates;
}

/** Rates in words: their mean, and from where to where they go. */
export function ratesInWords(rates: readonly number[]): string {
  const mean = rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
  return `${mean.toFixed(1)} requests/s on average (${Math.min(...rates).toFixed(1)} to ${Math.max(...rates).toFixed(1)} by slice)`;
}
