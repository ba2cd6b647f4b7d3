import type { RequestResult } from "../pool.ts";
import { type RouterEntry, routerOf, signalboxEntry } from "../routers.ts";
import type { Check, Scenario, ScenarioContext } from "../scenario.ts";
import { quantile, scoreOf } from "../score.ts";
import { POOLS } from "../testbed.ts";
import { merge, requestsOf, SLOS } from "../workload.ts";

/** What tenant B sends all the time, and the noise of tenant A as a multiple of it. The four machines can do about twenty a second. */
const QUIET = 2;
const FACTORS = [0, 1, 20];

/** How long it goes on, s. */
const LENGTH_S = 120;
const LENGTH_QUICK_S = 60;

const QUIET_TENANT = "tenant-b";

/** Parts of the trace, each with other requests: one in a hundred of B's in a single part is hardly three requests. */
const PARTS = 14;
const PARTS_QUICK = 1;

/** Where in the trace each further part begins after the one before. The last flood ends where the trace does. */
const PART_STEP = 700;

/** Seeds of different parts are different chance, too. */
const SEEDS_A_PART = 100;

/** Where tenant A's requests begin: behind all of tenant B's. */
const LOUD_FROM = 5_000;

/** How long tenant B is alone before tenant A comes, s: a flood comes upon a pool at work. */
const LEAD_S = 30;

/** What B sends in the first seconds of the flood counts, and is shown apart as well: until it is known for one, it is everywhere. */
const ONSET_S = 10;

const GOAL = 1.2;

/** The production queue: what A sends beyond it is refused. */
const QUEUE = { interactiveQueue: { queue: 256, maxWaitS: 10 } };

/** Requests a machine is held to where the queue alone is looked at: few enough that they hardly slow each other down. */
const HELD = 8;

const SIGNALBOX = signalboxEntry("signalbox", QUEUE);
const HELD_BACK = signalboxEntry(`signalbox, ${HELD} requests a machine`, { ...QUEUE, limits: "fixed", concurrency: HELD });
const ROUTERS: readonly RouterEntry[] = [SIGNALBOX, HELD_BACK, routerOf("least-connections"), routerOf("llm-d-epp@50ms")];

/** S7: one tenant floods the gateway; the other must not notice. */
export const noisy: Scenario = {
  id: "S7",
  title: "A noisy tenant",
  runs: (effort) => ROUTERS.length * FACTORS.length * partsOf(effort) * effort.seeds,
  run: async (context) => {
    const rows: Awaited<ReturnType<typeof rowOf>>[] = [];
    for (const router of ROUTERS) for (const factor of FACTORS) rows.push(await rowOf(context, router, factor));
    const rowsOf = (router: RouterEntry) => {
      const [alone, , flooded] = FACTORS.map((factor) => rows.find((row) => row.router === router.id && row.factor === factor)!);
      return { alone: alone!, flooded: flooded! };
    };
    return {
      text: [
        `Tenant B sends ${QUIET} requests/s; after ${LEAD_S} s tenant A comes and sends nothing, as much, or twenty times as much, which is twice what ${POOLS.small.name} can do. Equal weights, production queue limits (256 requests, 10 s). ${PARTS} parts of the trace, of which a quick run takes one; figures are over all that B sends from A's first request on, of all parts and seeds together, the first ${ONSET_S} s of the flood counted; the columns at the right show those seconds, and the others, apart, and the goals are measured with and without them. Adaptive limits fill the machines up to the pace target, which alone makes every answer slower than on an idle machine; held to ${HELD} requests each, what is left is the queue.`,
      ],
      tables: [
        {
          title: "Tenant B beside tenant A",
          columns: [
            { key: "router", label: "router", unit: "text" },
            { key: "factor", label: "A's load over B's", unit: "count" },
            { key: "attainment", label: "B's targets met", unit: "share" },
            { key: "waitP50", label: "B's wait p50", unit: "ms" },
            { key: "waitP99", label: "B's wait p99", unit: "ms" },
            { key: "ttftP50", label: "B's TTFT p50", unit: "ms" },
            { key: "ttftP99", label: "B's TTFT p99", unit: "ms" },
            { key: "tpotP99", label: "B's TPOT p99", unit: "ms" },
            { key: "wholeP99", label: "B's whole p99", unit: "s" },
            { key: "laterTtftP99", label: `TTFT p99 after ${ONSET_S} s`, unit: "ms" },
            { key: "laterWholeP99", label: `whole p99 after ${ONSET_S} s`, unit: "s" },
            { key: "onsetAttainment", label: `targets met in the first ${ONSET_S} s`, unit: "share" },
            { key: "onsetWholeP99", label: "whole p99 there", unit: "s" },
            { key: "refusedB", label: "B refused", unit: "count" },
            { key: "refusedA", label: "A refused", unit: "count" },
          ],
          rows,
        },
      ],
      plots: [],
      checks: [...checksOf("adaptive limits", rowsOf(SIGNALBOX)), ...checksOf(`machines held to ${HELD} requests`, rowsOf(HELD_BACK))],
    };
  },
};

type Row = Awaited<ReturnType<typeof rowOf>>;

/** B's p99 beside the flood against B alone over the same seconds, with the onset and without it; and who was turned away. */
function checksOf(how: string, { alone, flooded }: { readonly alone: Row; readonly flooded: Row }): Check[] {
  const check = (what: string, figure: "wholeP99" | "ttftP99" | "laterWholeP99" | "laterTtftP99"): Check => {
    const ratio = flooded[figure] / alone[figure];
    return { what: `${what}; ${how}`, goal: "at most 1.2 times", value: ratio.toFixed(2), met: ratio <= GOAL };
  };
  return [
    check("B's whole answers, p99, A at 20 times its share over B alone, from A's first request on", "wholeP99"),
    check("B's first tokens, p99, the same", "ttftP99"),
    check(`B's whole answers, p99, from ${ONSET_S} s after that on`, "laterWholeP99"),
    check(`B's first tokens, p99, from ${ONSET_S} s after that on`, "laterTtftP99"),
    { what: `B's requests refused; ${how}`, goal: "0", value: String(flooded.refusedB), met: flooded.refusedB === 0 },
  ];
}

function partsOf({ quick }: { readonly quick: boolean }): number {
  return quick ? PARTS_QUICK : PARTS;
}

/** One run per part of the trace and seed; figures are over the requests of all. */
async function rowOf(context: ScenarioContext, router: RouterEntry, factor: number) {
  const all: RequestResult[] = [];
  const parts = partsOf(context);
  for (let part = 0; part < parts; part++) {
    for (let seed = 1; seed <= context.seeds; seed++) all.push(...(await resultsOf(context, router, factor, part, seed)));
  }
  return figuresOf(router, factor, all);
}

async function resultsOf(
  context: ScenarioContext,
  router: RouterEntry,
  factor: number,
  part: number,
  seed: number,
): Promise<readonly RequestResult[]> {
  const slo = SLOS["azure-conv"];
  const trace = context.trace("azure-conv");
  const seconds = context.quick ? LENGTH_QUICK_S : LENGTH_S;
  const from = part * PART_STEP;
  const quiet = requestsOf(trace, { from, count: QUIET * (LEAD_S + seconds), ratePerS: QUIET }, slo, () => ({
    tenant: QUIET_TENANT,
    class: "interactive",
  }));
  const flood = { from: LOUD_FROM + from, count: QUIET * factor * seconds, ratePerS: QUIET * factor };
  const loud = factor === 0 ? [] : requestsOf(trace, flood, slo).map((request) => ({ ...request, atMs: request.atMs + LEAD_S * 1_000 }));
  const policy = { ttftSloMs: slo.ttftMs, tpotSloMs: slo.tpotMs };
  const { results } = await context.run({
    pool: POOLS.small,
    router,
    requests: merge(quiet, loud),
    policy,
    seed: part * SEEDS_A_PART + seed,
  });
  return results;
}

function figuresOf(router: RouterEntry, factor: number, results: readonly RequestResult[]) {
  const machines = POOLS.small.machines.length;
  const onsetMs = LEAD_S * 1_000;
  const lastsMs = onsetMs + ONSET_S * 1_000;
  const isQuiet = ({ request, error }: RequestResult): boolean => request.tenant === QUIET_TENANT && error === "";
  const between = (fromMs: number, untilMs: number) =>
    scoreOf(results, machines, (result) => isQuiet(result) && result.request.atMs >= fromMs && result.request.atMs < untilMs);
  const score = between(onsetMs, Number.POSITIVE_INFINITY);
  const later = between(lastsMs, Number.POSITIVE_INFINITY);
  const onset = between(onsetMs, lastsMs);
  const waits = results
    .filter((result) => isQuiet(result) && result.request.atMs >= onsetMs)
    .map(({ waitedMs }) => waitedMs)
    .toSorted((a, b) => a - b);
  const refused = (tenant: string): number => results.filter(({ request, error }) => request.tenant === tenant && error !== "").length;
  return {
    router: router.id,
    factor,
    attainment: score.attainment,
    waitP50: quantile(waits, 0.5),
    waitP99: quantile(waits, 0.99),
    ttftP50: score.ttftP50Ms,
    ttftP99: score.ttftP99Ms,
    tpotP99: score.tpotP99Ms,
    wholeP99: score.endToEndP99Ms / 1_000,
    laterTtftP99: later.ttftP99Ms,
    laterWholeP99: later.endToEndP99Ms / 1_000,
    onsetAttainment: onset.attainment,
    onsetWholeP99: onset.endToEndP99Ms / 1_000,
    refusedA: refused("tenant-a"),
    refusedB: refused(QUIET_TENANT),
  };
}
