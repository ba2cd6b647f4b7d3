import { SeededRandom } from "#libs/clock/fake.ts";
import { SimulatedEngine } from "../engine.ts";
import type { PoolRequest } from "../pool.ts";
import { type RouterEntry, routerOf } from "../routers.ts";
import type { Scenario, ScenarioContext } from "../scenario.ts";
import { metTargets, quantile } from "../score.ts";
import { POOLS } from "../testbed.ts";
import type { Trace } from "../trace.ts";
import { batchShare, SLOS } from "../workload.ts";

/** A day in this many seconds: the engines see the same rates for shorter. */
const DAY_S = 1_200;
const DAY_QUICK_S = 240;

/** Mean load and its swing: from 4 at night to 24 at noon, beyond what the machines can do. */
const MEAN = 14;
const SWING = 10;

const BATCH = 0.35;

const ROUTERS: readonly RouterEntry[] = ["signalbox", "least-connections", "llm-d-epp@50ms"].map(routerOf);

/** S9: a day with a trough and a peak, and batch work that can wait for the trough. */
export const diurnal: Scenario = {
  id: "S9",
  title: "A day with a batch lane",
  runs: () => ROUTERS.length,
  run: async (context) => {
    const rows: Awaited<ReturnType<typeof rowOf>>[] = [];
    for (const router of ROUTERS) rows.push(await rowOf(context, router));
    const [own, ...others] = rows;
    const best = others.reduce((a, b) => (a.interactive > b.interactive ? a : b));
    return {
      text: [
        `Lengths of the Azure conversations, arrivals at ${MEAN - SWING} to ${MEAN + SWING} requests/s over one compressed day (${DAY_S} s), ${BATCH * 100} % of them batch work; ${POOLS.small.name}.`,
      ],
      tables: [
        {
          title: "One day",
          columns: [
            { key: "router", label: "router", unit: "text" },
            { key: "interactive", label: "interactive targets met", unit: "share" },
            { key: "atPeak", label: "in the busiest quarter", unit: "share" },
            { key: "batchP50", label: "batch p50", unit: "s" },
            { key: "batchP99", label: "batch p99", unit: "s" },
            { key: "busy", label: "engines busy", unit: "share" },
            { key: "batchLost", label: "batch requests lost", unit: "count" },
          ],
          rows,
        },
      ],
      plots: [],
      checks: [
        {
          what: "Interactive targets met over the day, against the best baseline",
          goal: "better",
          value: `${(own!.interactive * 100).toFixed(1)} % against ${(best.interactive * 100).toFixed(1)} % (${best.router})`,
          met: own!.interactive > best.interactive,
        },
        { what: "Batch requests that never completed", goal: "0", value: String(own!.batchLost), met: own!.batchLost === 0 },
      ],
    };
  },
};

/** Arrivals by a Poisson process whose rate goes up and down once. */
function dayOf(trace: Trace, seconds: number): PoolRequest[] {
  const random = new SeededRandom(9);
  const slo = SLOS["azure-conv"];
  const sender = batchShare(BATCH, 9);
  const requests: PoolRequest[] = [];
  let atMs = 0;
  for (;;) {
    const rate = MEAN - SWING * Math.cos((2 * Math.PI * atMs) / (seconds * 1_000));
    atMs += (-Math.log(1 - random.next()) / rate) * 1_000;
    if (atMs > seconds * 1_000) return requests;
    const id = requests.length;
    const shape = trace.requests[id % trace.requests.length]!;
    requests.push({ ...shape, ...sender(id), id, atMs, ttftSloMs: slo.ttftMs, tpotSloMs: slo.tpotMs });
  }
}

async function rowOf(context: ScenarioContext, router: RouterEntry) {
  const seconds = context.quick ? DAY_QUICK_S : DAY_S;
  const slo = SLOS["azure-conv"];
  const requests = dayOf(context.trace("azure-conv"), seconds);
  const policy = { ttftSloMs: slo.ttftMs, tpotSloMs: slo.tpotMs };
  const { results, bed } = await context.run({ pool: POOLS.small, router, requests, policy, seed: 1 });
  const people = results.filter(({ request }) => request.class !== "batch");
  const peak = people.filter(({ arrivedMs }) => Math.abs(arrivedMs / 1_000 / seconds - 0.5) < 0.125);
  const batch = results.filter(({ request }) => request.class === "batch");
  const waits = batch.map(({ endToEndMs }) => endToEndMs / 1_000).toSorted((a, b) => a - b);
  const endMs = results.reduce((last, { endedMs }) => Math.max(last, endedMs), 0);
  const busyMs = bed.backends.reduce((sum, { server }) => sum + (server instanceof SimulatedEngine ? server.busyMs : 0), 0);
  return {
    router: router.id,
    interactive: people.filter(metTargets).length / people.length,
    atPeak: peak.filter(metTargets).length / Math.max(1, peak.length),
    batchP50: quantile(waits, 0.5),
    batchP99: quantile(waits, 0.99),
    busy: busyMs / (endMs * bed.backends.length),
    batchLost: batch.filter(({ error }) => error !== "").length,
  };
}
