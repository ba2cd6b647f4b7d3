import { type Measured, measureAll, ownOf, rivalsOf, routerTable } from "../compare.ts";
import { casesOf, measure, over, ratesInWords, ratesWhere, searchRuns, sliceCount } from "../measure.ts";
import { type RouterEntry, ROUTERS, routerOf, signalboxEntry } from "../routers.ts";
import type { Check, Effort, Plot, Scenario, ScenarioContext, ScenarioResult } from "../scenario.ts";
import { POOLS, type PoolSpec } from "../testbed.ts";
import type { TraceName } from "../trace.ts";
import { SLOS } from "../workload.ts";

/** Traces, and the rates between which least-connections falls through 80 %. */
const TRACES: readonly (readonly [TraceName, readonly [number, number]])[] = [
  ["azure-conv", [20, 80]],
  ["azure-code", [1.5, 30]],
  ["mooncake-conversation", [1.5, 9]],
  ["mooncake-synthetic", [1.5, 9]],
];

/** The load that everybody is compared at. */
const GOAL = 0.8;

/** Rates of the curves, as shares of that load. */
const FACTORS = [0.5, 0.7, 0.85, 1, 1.1];
const FACTORS_QUICK = [0.7, 1];

/** Routers of the curves. */
const CURVES = ["signalbox", "least-connections", "p2c", "llm-d-epp@50ms", "dynamo-linear", "smg-cache-aware", "capacity-least-conn"];
const CURVES_QUICK = ["signalbox", "least-connections", "llm-d-epp@50ms"];
const QUICK = [
  "signalbox",
  "round-robin",
  "least-connections",
  "p2c",
  "llm-d-epp@50ms",
  "dynamo-linear",
  "smg-least-load",
  "capacity-least-conn",
];

/** What can be switched off by configuration. */
const ABLATIONS: readonly RouterEntry[] = [
  signalboxEntry("signalbox, no engine metrics", { metrics: false }, "ablation"),
  signalboxEntry("signalbox, nothing waits", { limits: "fixed" }, "ablation"),
];

const SIGNALBOX_GOAL = 0.91;

function routersOf({ quick }: Effort): readonly RouterEntry[] {
  return quick ? QUICK.map(routerOf) : [...ROUTERS, ...ABLATIONS];
}

/** S2: two H100, two A100 and two L40S behind one model, on all traces. */
export const heterogeneous: Scenario = {
  id: "S2",
  title: "Heterogeneous pool",
  runs: (effort) => {
    const cases = sliceCount(effort) * effort.seeds;
    const curve = (effort.quick ? FACTORS_QUICK.length * CURVES_QUICK.length : FACTORS.length * CURVES.length) * sliceCount(effort);
    return TRACES.length * (searchRuns(effort) + routersOf(effort).length * cases + curve);
  },
  run: async (context) => {
    const parts: ScenarioResult[] = [];
    for (const [name, range] of TRACES) parts.push(await onTrace(context, POOLS.heterogeneous, name, range));
    const won = parts.filter(({ checks }) => checks[1]!.met).length;
    const lost = parts.filter(({ checks }) => !checks[2]!.met).length;
    const overall: Check = {
      what: "Traces on which Signalbox beats every baseline by more than the interval; traces on which it loses by more than a point",
      goal: "at least 3; 0",
      value: `${won}; ${lost}`,
      met: won >= 3 && lost === 0,
    };
    return {
      text: [
        "Two H100, two A100 and two L40S serve one 8B-class model. For each slice of each trace the arrival rate is found at which least-connections meets the targets (time to first token and mean time per output token) for 80 % of the requests; there every router is compared. Intervals are 95 % over slices and seeds; the difference is paired: both routers saw the same requests.",
      ],
      tables: parts.flatMap(({ tables }) => tables),
      plots: parts.flatMap(({ plots }) => plots),
      checks: [...parts.flatMap(({ checks }) => checks), overall],
    };
  },
};

async function onTrace(
  context: ScenarioContext,
  pool: PoolSpec,
  name: TraceName,
  range: readonly [number, number],
): Promise<ScenarioResult> {
  const trace = context.trace(name);
  const slo = SLOS[name];
  const rates = await ratesWhere(context, pool, trace, GOAL, range);
  const cases = casesOf(context, trace, rates);
  const measured = await measureAll(context, pool, routersOf(context), cases, slo);
  const load = `${name} at ${ratesInWords(rates)} (first token within ${slo.ttftMs / 1_000} s, ${slo.tpotMs} ms per token)`;
  return {
    text: [],
    tables: [routerTable(`${load}, ${cases.length} runs of ${cases[0]!.requests.length} requests`, measured)],
    plots: [await curveOf(context, pool, name, rates)],
    checks: checksOf(name, measured),
  };
}

function checksOf(name: TraceName, measured: readonly Measured[]): Check[] {
  const attained = over(ownOf(measured).samples, ({ attainment }) => attainment).mean;
  const rivals = rivalsOf(measured);
  const closest = rivals[0]!;
  const unbeaten = rivals.filter((rival) => rival.mean - rival.half <= 0).map((rival) => rival.id);
  const lead = `${closest.mean.toFixed(1)} ± ${closest.half.toFixed(1)} points ahead of ${closest.id}`;
  return [
    {
      what: `${name}: targets met where least-connections meets 80 %`,
      goal: "at least 91 %",
      value: `${(attained * 100).toFixed(1)} %`,
      met: attained >= SIGNALBOX_GOAL,
    },
    {
      what: `${name}: beats every baseline by more than the interval`,
      goal: "every one",
      value: unbeaten.length === 0 ? lead : `${lead}; not beyond doubt: ${unbeaten.join(", ")}`,
      met: unbeaten.length === 0,
    },
    { what: `${name}: loses to none by more than a point`, goal: "none", value: lead, met: closest.mean >= -1 },
  ];
}

async function curveOf(context: ScenarioContext, pool: PoolSpec, name: TraceName, rates: readonly number[]): Promise<Plot> {
  const meanRate = rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
  const trace = context.trace(name);
  const series: Plot["series"][number][] = [];
  for (const id of context.quick ? CURVES_QUICK : CURVES) {
    const points = [];
    for (const factor of context.quick ? FACTORS_QUICK : FACTORS) {
      const cases = casesOf(
        { ...context, seeds: 1 },
        trace,
        rates.map((rate) => rate * factor),
      );
      const { mean, half } = over(await measure(context, pool, routerOf(id), cases, SLOS[name]), ({ attainment }) => attainment);
      points.push({ x: meanRate * factor, y: mean, half });
    }
    series.push({ name: id, points });
  }
  return {
    file: `s2-${name}`,
    title: `Targets met against offered load: ${name}`,
    xLabel: "requests per second, mean over slices",
    yLabel: "targets met",
    share: true,
    series,
  };
}
