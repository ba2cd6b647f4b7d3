import { aheadBy, casesOf, measure, over, ratesInWords, ratesWhere, type Sample, searchRuns, sliceCount } from "../measure.ts";
import { baselineReplicas, betterOfTwo, leastOf, signalboxReplicas } from "../replicas.ts";
import type { RouterEntry } from "../routers.ts";
import type { Check, Effort, Scenario } from "../scenario.ts";
import type { Interval } from "../statistics.ts";
import { POOLS } from "../testbed.ts";
import { SLOS } from "../workload.ts";

const COUNTS = [1, 2, 4, 8];
const COUNTS_QUICK = [1, 8];

/** Age of what a replica hears of the others, ms, besides the 50 ms between messages. */
const FRESH_MS = 5;
const STALE_MS = 2_000;
const AGES = [FRESH_MS, 200, 500, STALE_MS];
const AGES_QUICK = [FRESH_MS, STALE_MS];

/** Points that eight replicas may stay behind one. */
const WITHIN_POINTS = 2;

const MAKERS: readonly ((count: number, ageMs: number) => RouterEntry)[] = [
  signalboxReplicas,
  (count, ageMs) => baselineReplicas("least-connections", count, ageMs, leastOf),
  (count, ageMs) => baselineReplicas("p2c", count, ageMs, betterOfTwo),
];

interface Setting {
  readonly count: number;
  readonly ageMs: number;
}

interface Row extends Setting {
  readonly router: string;
  readonly attainment: Interval;
  readonly samples: readonly Sample[];
}

function settingsOf({ quick }: Effort): readonly Setting[] {
  const counts = quick ? COUNTS_QUICK : COUNTS;
  const ages = quick ? AGES_QUICK : AGES;
  const most = counts.at(-1)!;
  return [
    ...counts.flatMap((count) => [FRESH_MS, STALE_MS].map((ageMs) => ({ count, ageMs }))),
    ...ages.filter((ageMs) => ageMs !== FRESH_MS && ageMs !== STALE_MS).map((ageMs) => ({ count: most, ageMs })),
  ].filter(({ count, ageMs }) => count > 1 || ageMs === FRESH_MS);
}

/** S11: several policy engines, each of which sees the others late. */
export const replicas: Scenario = {
  id: "S11",
  title: "Replicas and the age of their state",
  runs: (effort) => searchRuns(effort) + settingsOf(effort).length * MAKERS.length * sliceCount(effort) * effort.seeds,
  run: async (context) => {
    const trace = context.trace("azure-conv");
    const slo = SLOS["azure-conv"];
    const rates = await ratesWhere(context, POOLS.heterogeneous, trace, 0.8, [20, 80]);
    const cases = casesOf(context, trace, rates);
    const rows: Row[] = [];
    for (const { count, ageMs } of settingsOf(context)) {
      for (const make of MAKERS) {
        const router = make(count, ageMs);
        const samples = await measure(context, POOLS.heterogeneous, router, cases, slo);
        rows.push({ router: router.id, count, ageMs, attainment: over(samples, ({ attainment }) => attainment), samples });
      }
    }
    const at = (router: string, count: number, ageMs: number): Row =>
      rows.find((row) => row.router === router && row.count === count && row.ageMs === ageMs)!;
    const one = at("signalbox", 1, FRESH_MS);
    const fresh = at("signalbox", 8, FRESH_MS);
    const stale = at("signalbox", 8, STALE_MS);
    const p2c = at("p2c", 8, STALE_MS);
    return {
      text: [
        `The load of S2 on the same pool (azure-conv, ${ratesInWords(rates)}), spread evenly over replicas that tell each other of their requests in flight every 50 ms. The message arrives after the stated time.`,
      ],
      tables: [
        {
          title: "Targets met by number of replicas and age of the state",
          columns: [
            { key: "count", label: "replicas", unit: "count" },
            { key: "ageMs", label: "message age", unit: "ms" },
            { key: "router", label: "router", unit: "text" },
            { key: "attainment", label: "targets met", unit: "share" },
          ],
          rows: rows.map(({ router, count, ageMs, attainment }) => ({ router, count, ageMs, attainment })),
        },
      ],
      plots: [plotOf("s11-fresh", "Targets met by number of replicas, state of 50 ms", rows, FRESH_MS), agePlot(rows)],
      checks: [
        compared("Eight replicas with 50 ms state, against one", "within 2 points", fresh, one, -WITHIN_POINTS),
        compared("Eight replicas with 2 s-old state, against P2C", "no worse than P2C", stale, p2c, 0),
      ],
    };
  },
};

/** The goal is held against the mean; the interval of the paired difference is told. */
function compared(what: string, goal: string, own: Row, other: Row, leastPoints: number): Check {
  const percent = ({ attainment }: Row): string => `${(attainment.mean * 100).toFixed(1)} %`;
  const ahead = aheadBy(own.samples, other.samples);
  const value = `${percent(own)} against ${percent(other)}: ${ahead.mean.toFixed(1)} ± ${ahead.half.toFixed(1)} points, paired`;
  return { what, goal, value, met: ahead.mean >= leastPoints };
}

function plotOf(file: string, title: string, rows: readonly Row[], ageMs: number) {
  const series = [...new Set(rows.map(({ router }) => router))].map((name) => ({
    name,
    points: rows
      .filter((row) => row.router === name && row.ageMs === ageMs)
      .map(({ count, attainment: { mean, half } }) => ({ x: count, y: mean, half })),
  }));
  return { file, title, xLabel: "replicas", yLabel: "targets met", share: true, series };
}

function agePlot(rows: readonly Row[]) {
  const most = Math.max(...rows.map(({ count }) => count));
  const series = [...new Set(rows.map(({ router }) => router))].map((name) => ({
    name,
    points: rows
      .filter((row) => row.router === name && row.count === most)
      .map(({ ageMs, attainment: { mean, half } }) => ({ x: ageMs, y: mean, half }))
      .toSorted((a, b) => a.x - b.x),
  }));
  return {
    file: "s11-age",
    title: `Targets met by the age of the state, ${most} replicas`,
    xLabel: "message age, ms",
    yLabel: "targets met",
    share: true,
    logX: true,
    series,
  };
}
