import type { RequestResult } from "../pool.ts";
import { type RouterEntry, routerOf, signalboxEntry } from "../routers.ts";
import type { Check, Scenario, ScenarioContext, Table } from "../scenario.ts";
import { quantile, scoreOf } from "../score.ts";
import { POOLS } from "../testbed.ts";
import type { TraceName } from "../trace.ts";
import { merge, requestsOf, SLOS } from "../workload.ts";

/** What tenant B sends all the time, and the noise of tenant A as a multiple of it. The four machines can do about twenty a second. */
const QUIET = 2;
const FACTORS = [0, 1, 20];
const FACTORS_ELSEWHERE = [0, 20];

/** How long it goes on, s. */
const LENGTH_S = 120;
const LENGTH_QUICK_S = 60;

const QUIET_TENANT = "tenant-b";

/** Parts of the trace, each with other requests: one in a hundred of B's in a single part is hardly three requests. */
const PARTS = 14;
const PARTS_QUICK = 1;

/** Where in the trace each further part begins after the one before. The last flood ends where the trace does. */
const PART_STEP = 700;

/** Where tenant A's requests begin: behind all of tenant B's. */
const LOUD_FROM = 5_000;

/** What the scenario is played with: what B and A send, and where in the trace. */
interface Material {
  readonly label: string;
  readonly trace: TraceName;
  /** What tenant B sends, requests/s. */
  readonly quiet: number;
  readonly parts: number;
  readonly partStep: number;
  /** Where in the trace B's first part begins, and how far behind it A's. */
  readonly from: number;
  readonly loudFrom: number;
}

const MATERIAL: Material = {
  label: "azure-conv",
  trace: "azure-conv",
  quiet: QUIET,
  parts: PARTS,
  partStep: PART_STEP,
  from: 0,
  loudFrom: LOUD_FROM,
};

/** Requests of B between those of the parts above: nothing was tuned on them. */
const HELD_OUT: Material = { ...MATERIAL, label: "azure-conv, held out", from: PART_STEP / 2 };

/**
 * Tenants of another kind, never tuned on either: code completion comes in bursts of short answers, long prompts come four to six at once. The
 * machines can do about seven a second of the first and two of the second; B's bursts take several machines when it is alone.
 */
const BURSTS: readonly Material[] = [
  { label: "azure-code", trace: "azure-code", quiet: 0.5, parts: 16, partStep: 80, from: 0, loudFrom: 1_500 },
  { label: "mooncake-conversation", trace: "mooncake-conversation", quiet: 0.1, parts: 16, partStep: 60, from: 0, loudFrom: 3_000 },
];

/** Seeds of different parts are different chance, too. */
const SEEDS_A_PART = 100;

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
const PLAIN = routerOf("least-connections");
const ROUTERS: readonly RouterEntry[] = [SIGNALBOX, HELD_BACK, PLAIN, routerOf("llm-d-epp@50ms")];
const ROUTERS_ELSEWHERE = [SIGNALBOX, PLAIN];

const COLUMNS: Table["columns"] = [
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
];

/** S7: one tenant floods the gateway; the other must not notice. */
export const noisy: Scenario = {
  id: "S7",
  title: "A noisy tenant",
  runs: (effort) => {
    const others = [HELD_OUT, ...BURSTS].reduce((sum, material) => sum + partsOf(effort, material), 0);
    const runsElsewhere = ROUTERS_ELSEWHERE.length * FACTORS_ELSEWHERE.length * others;
    return (ROUTERS.length * FACTORS.length * partsOf(effort, MATERIAL) + runsElsewhere) * effort.seeds;
  },
  run: async (context) => {
    const rows: Awaited<ReturnType<typeof rowOf>>[] = [];
    for (const router of ROUTERS) for (const factor of FACTORS) rows.push(await rowOf(context, MATERIAL, router, factor));
    const elsewhere: typeof rows = [];
    for (const material of [HELD_OUT, ...BURSTS])
      for (const router of ROUTERS_ELSEWHERE)
        for (const factor of FACTORS_ELSEWHERE) elsewhere.push(await rowOf(context, material, router, factor));
    const rowsOf = ({ label }: Material, { id }: RouterEntry) => {
      const at = (wanted: number): Row =>
        [...rows, ...elsewhere].find(({ material, router, factor }) => material === label && router === id && factor === wanted)!;
      return { alone: at(0), flooded: at(FACTORS.at(-1)!) };
    };
    return {
      text: [
        `Tenant B sends ${QUIET} requests/s; after ${LEAD_S} s tenant A comes and sends nothing, as much, or twenty times as much, which is twice what ${POOLS.small.name} can do. Equal weights, production queue limits (256 requests, 10 s). ${PARTS} parts of the trace, of which a quick run takes one; figures are over all that B sends from A's first request on, of all parts and seeds together, the first ${ONSET_S} s of the flood counted; the columns at the right show those seconds, and the others, apart, and the goals are measured with and without them. Adaptive limits fill the machines up to the pace target, which alone makes every answer slower than on an idle machine; held to ${HELD} requests each, what is left is the queue.`,
        `How the heavy tenant is held back was tuned on these parts. The second table has what nothing was tuned on: B's requests in between, and tenants whose requests come in bursts. Alone, such a burst has every machine to itself; beside a flood it has the one that is kept clear, and its fair share is half of the machines at most: no goal is set for these.`,
      ],
      tables: [
        {
          title: "Tenant B beside tenant A",
          columns: [{ key: "router", label: "router", unit: "text" }, ...COLUMNS],
          rows,
        },
        {
          title: "The same, on requests that nothing was tuned on",
          columns: [{ key: "material", label: "requests", unit: "text" }, { key: "router", label: "router", unit: "text" }, ...COLUMNS],
          rows: elsewhere,
        },
      ],
      plots: [],
      checks: [
        ...checksOf("adaptive limits", rowsOf(MATERIAL, SIGNALBOX)),
        ...checksOf("adaptive limits, requests held out", rowsOf(HELD_OUT, SIGNALBOX)),
        ...checksOf(`machines held to ${HELD} requests`, rowsOf(MATERIAL, HELD_BACK)),
      ],
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

function partsOf({ quick }: { readonly quick: boolean }, { parts }: Material): number {
  return quick ? PARTS_QUICK : parts;
}

/** One run per part of the trace and seed; figures are over the requests of all. */
async function rowOf(context: ScenarioContext, material: Material, router: RouterEntry, factor: number) {
  const all: RequestResult[] = [];
  for (let part = 0; part < partsOf(context, material); part++) {
    for (let seed = 1; seed <= context.seeds; seed++) all.push(...(await resultsOf(context, material, router, { factor, part, seed })));
  }
  return { material: material.label, ...figuresOf(router, factor, all) };
}

async function resultsOf(
  context: ScenarioContext,
  material: Material,
  router: RouterEntry,
  { factor, part, seed }: { readonly factor: number; readonly part: number; readonly seed: number },
): Promise<readonly RequestResult[]> {
  const { quiet: rate, loudFrom } = material;
  const slo = SLOS[material.trace];
  const trace = context.trace(material.trace);
  const seconds = context.quick ? LENGTH_QUICK_S : LENGTH_S;
  const from = material.from + part * material.partStep;
  const quiet = requestsOf(trace, { from, count: Math.round(rate * (LEAD_S + seconds)), ratePerS: rate }, slo, () => ({
    tenant: QUIET_TENANT,
    class: "interactive",
  }));
  const flood = { from: loudFrom + from, count: Math.round(rate * factor * seconds), ratePerS: rate * factor };
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
    onsetAttainment: onset.requests === 0 ? undefined : onset.attainment,
    onsetWholeP99: onset.requests === 0 ? undefined : onset.endToEndP99Ms / 1_000,
    refusedA: refused("tenant-a"),
    refusedB: refused(QUIET_TENANT),
  };
}
