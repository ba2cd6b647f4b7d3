import { casesOf, sliceCount } from "../measure.ts";
import type { RequestResult } from "../pool.ts";
import { type RouterEntry, routerOf } from "../routers.ts";
import type { Scenario, ScenarioContext } from "../scenario.ts";
import { scoreOf } from "../score.ts";
import { intervalOf } from "../statistics.ts";
import { POOLS } from "../testbed.ts";
import { SLOS } from "../workload.ts";

const ROUTERS = ["signalbox", "round-robin", "least-connections", "p2c", "llm-d-epp@50ms", "smg-least-load", "dynamo-linear"].map(routerOf);

/** Mean load, requests/s: its bursts are thirty times that. */
const RATE = 4;

/** A second with this many arrivals is a burst. */
const BURST = 12;

/** S3: the code trace arrives in bursts. */
export const burst: Scenario = {
  id: "S3",
  title: "Bursts",
  runs: (effort) => ROUTERS.length * sliceCount(effort) * effort.seeds,
  run: async (context) => {
    const rows = [];
    for (const router of ROUTERS) rows.push(await rowOf(context, router));
    const [own, ...others] = rows;
    const best = others.reduce((a, b) => (a.burst.mean > b.burst.mean ? a : b));
    return {
      text: [
        `The Azure code trace at ${RATE} requests/s on average (coefficient of variation 13). Requests count as part of a burst when at least ${BURST} arrived in their second.`,
      ],
      tables: [
        {
          title: `azure-code at ${RATE} requests/s on ${POOLS.heterogeneous.name}`,
          columns: [
            { key: "router", label: "router", unit: "text" },
            { key: "all", label: "targets met", unit: "share" },
            { key: "burst", label: "in bursts", unit: "share" },
            { key: "ttftP50", label: "TTFT p50 in bursts", unit: "ms" },
            { key: "ttftP99", label: "TTFT p99 in bursts", unit: "ms" },
          ],
          rows,
        },
      ],
      plots: [],
      checks: [
        {
          what: "Targets met in bursts, against the best baseline",
          goal: "loses by at most a point",
          value: `${(own!.burst.mean * 100).toFixed(1)} % against ${(best.burst.mean * 100).toFixed(1)} % (${best.router})`,
          met: own!.burst.mean >= best.burst.mean - 0.01,
        },
      ],
    };
  },
};

async function rowOf(context: ScenarioContext, router: RouterEntry) {
  const slo = SLOS["azure-code"];
  const policy = { ttftSloMs: slo.ttftMs, tpotSloMs: slo.tpotMs };
  const scores = [];
  for (const { requests, seed } of casesOf(context, context.trace("azure-code"), RATE)) {
    const { results, bed } = await context.run({ pool: POOLS.heterogeneous, router, requests, policy, seed });
    const crowded = crowdedSeconds(results);
    const inBurst = scoreOf(results, bed.backends.length, ({ arrivedMs }) => crowded.has(Math.floor(arrivedMs / 1_000)));
    scores.push({ all: scoreOf(results, bed.backends.length), inBurst });
  }
  return {
    router: router.id,
    all: intervalOf(scores.map(({ all }) => all.attainment)),
    burst: intervalOf(scores.map(({ inBurst }) => inBurst.attainment)),
    ttftP50: intervalOf(scores.map(({ inBurst }) => inBurst.ttftP50Ms)).mean,
    ttftP99: intervalOf(scores.map(({ inBurst }) => inBurst.ttftP99Ms)).mean,
  };
}

function crowdedSeconds(results: readonly RequestResult[]): ReadonlySet<number> {
  const counts = new Map<number, number>();
  for (const { arrivedMs } of results) {
    const second = Math.floor(arrivedMs / 1_000);
    counts.set(second, (counts.get(second) ?? 0) + 1);
  }
  return new Set([...counts].filter(([, count]) => count >= BURST).map(([second]) => second));
}
