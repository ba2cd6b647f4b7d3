import type { RequestResult } from "../pool.ts";
import { type RouterEntry, routerOf, signalboxEntry } from "../routers.ts";
import type { Scenario, ScenarioContext } from "../scenario.ts";
import { metTargets, quantile } from "../score.ts";
import { intervalOf } from "../statistics.ts";
import { POOLS } from "../testbed.ts";
import { batchShare, requestsOf, SLOS } from "../workload.ts";

/** Where the goals are held: the overload at which people's requests meet their targets this often without scheduling. */
const UNSCHEDULED = 0.65;

/** Loads of the curve, as shares of that. */
const FACTORS = [0.8, 1, 1.15, 1.3];
const FACTORS_QUICK = [1];

/** The search for that load: between these, requests/s, in this many steps. */
const SEARCH = [12, 30] as const;
const SEARCH_STEPS = 6;

const BATCH = 0.35;

const REQUESTS = 6_000;
const REQUESTS_QUICK = 2_500;

const INTERACTIVE_GOAL = 0.96;
const BATCH_GOAL = 0.05;

const SCHEDULED = routerOf("signalbox");

const ROUTERS: readonly RouterEntry[] = [
  SCHEDULED,
  signalboxEntry("signalbox with engine priorities", { enginePriority: true }, "ablation"),
  signalboxEntry("signalbox, nothing waits", { limits: "fixed", batchCeiling: 1 }, "ablation"),
  routerOf("least-connections"),
  routerOf("llm-d-epp@50ms"),
];

/** S6: people and batch work share machines that are too few for both. */
export const mixed: Scenario = {
  id: "S6",
  title: "Interactive and batch requests under overload",
  runs: ({ quick, seeds }) => (SEARCH_STEPS + ROUTERS.length * (quick ? FACTORS_QUICK : FACTORS).length) * seeds,
  run: async (context) => {
    const rows: Row[] = [];
    const overload = await overloadOf(context);
    for (const factor of context.quick ? FACTORS_QUICK : FACTORS) {
      for (const router of ROUTERS) rows.push(await rowOf(context, router, overload * factor));
    }
    const at = (id: string) => rows.find((row) => row.router === id && row.rate === overload)!;
    const own = at(SCHEDULED.id);
    const without = at("least-connections");
    const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
    return {
      text: [
        `${percent(BATCH)} of the requests are batch work, for which nobody waits; the rest are interactive. ${POOLS.small.name}, Azure conversations. The load is that at which least-connections meets the targets for ${percent(UNSCHEDULED)} of people's requests, and shares of it. Without scheduling everything goes to an engine at once; Signalbox lets batch requests wait at the gateway (ceiling 0.65).`,
      ],
      tables: [
        {
          title: `Mixed classes on ${POOLS.small.name}`,
          columns: [
            { key: "rate", label: "load", unit: "rate" },
            { key: "router", label: "router", unit: "text" },
            { key: "interactive", label: "interactive targets met", unit: "share" },
            { key: "interactiveTtftP99", label: "interactive TTFT p99", unit: "ms" },
            { key: "batchShare", label: "batch share of tokens while both arrive", unit: "share" },
            { key: "batchP50", label: "batch p50", unit: "s" },
            { key: "makespan", label: "all done after", unit: "s" },
            { key: "batchLost", label: "batch requests lost", unit: "count" },
          ],
          rows,
        },
      ],
      plots: [
        {
          file: "s6-interactive",
          title: `Interactive targets met with ${percent(BATCH)} batch work`,
          xLabel: "requests per second",
          yLabel: "interactive targets met",
          share: true,
          series: ROUTERS.map(({ id }) => ({
            name: id,
            points: rows
              .filter(({ router }) => router === id)
              .map(({ rate, interactive }) => ({ x: rate, y: interactive.mean, half: interactive.half })),
          })),
        },
      ],
      checks: [
        {
          what: `Interactive targets met at ${overload.toFixed(1)} requests/s`,
          goal: "at least 96 %, about 65 % without scheduling",
          value: `${percent(own.interactive.mean)}; least-connections ${percent(without.interactive.mean)}`,
          met: own.interactive.mean >= INTERACTIVE_GOAL,
        },
        {
          what: "Batch share of the tokens while both arrive",
          goal: "at least 5 %",
          value: percent(own.batchShare),
          met: own.batchShare >= BATCH_GOAL,
        },
        { what: "Batch requests that never completed", goal: "0", value: String(own.batchLost), met: own.batchLost === 0 },
      ],
    };
  },
};

type Figures = ReturnType<typeof figuresOf>;
type Row = Awaited<ReturnType<typeof rowOf>>;

/** Load at which least-connections meets the targets of people's requests as often as `UNSCHEDULED`. */
async function overloadOf(context: ScenarioContext): Promise<number> {
  let [low, high]: readonly [number, number] = SEARCH;
  for (let step = 0; step < SEARCH_STEPS; step++) {
    const middle = (low + high) / 2;
    const { interactive } = await rowOf(context, routerOf("least-connections"), middle);
    if (interactive.mean >= UNSCHEDULED) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

async function rowOf(context: ScenarioContext, router: RouterEntry, rate: number) {
  const slo = SLOS["azure-conv"];
  const count = context.quick ? REQUESTS_QUICK : REQUESTS;
  const policy = { ttftSloMs: slo.ttftMs, tpotSloMs: slo.tpotMs };
  const runs: Figures[] = [];
  for (let seed = 1; seed <= context.seeds; seed++) {
    const from = (seed - 1) * count;
    const requests = requestsOf(context.trace("azure-conv"), { from, count, ratePerS: rate }, slo, batchShare(BATCH, seed));
    const { results } = await context.run({ pool: POOLS.small, router, requests, policy, seed });
    runs.push(figuresOf(results));
  }
  const mean = (figure: (run: Figures) => number): number => intervalOf(runs.map(figure)).mean;
  return {
    rate,
    router: router.id,
    interactive: intervalOf(runs.map(({ interactive }) => interactive)),
    interactiveTtftP99: mean(({ ttftP99 }) => ttftP99),
    batchShare: mean((run) => run.batchShare),
    batchP50: mean(({ batchP50 }) => batchP50),
    makespan: mean(({ makespan }) => makespan),
    batchLost: runs.reduce((sum, { batchLost }) => sum + batchLost, 0),
  };
}

function figuresOf(results: readonly RequestResult[]) {
  const people = results.filter(({ request }) => request.class !== "batch");
  const batch = results.filter(({ request }) => request.class === "batch");
  const lastArrivalMs = results.at(-1)!.arrivedMs;
  const early = results.filter(({ endedMs }) => endedMs <= lastArrivalMs);
  const tokens = (of: readonly RequestResult[]): number =>
    of.reduce((sum, { request }) => sum + request.inputTokens + request.outputTokens, 0);
  const sorted = (values: number[]): number[] => values.toSorted((a, b) => a - b);
  return {
    interactive: people.filter(metTargets).length / people.length,
    ttftP99: quantile(sorted(people.map(({ ttftMs }) => ttftMs)), 0.99),
    batchShare: tokens(early.filter(({ request }) => request.class === "batch")) / Math.max(1, tokens(early)),
    batchP50: quantile(sorted(batch.map(({ endToEndMs }) => endToEndMs)), 0.5) / 1_000,
    makespan: results.reduce((last, { endedMs }) => Math.max(last, endedMs), 0) / 1_000,
    batchLost: batch.filter(({ error }) => error !== "").length,
  };
}
