import assert from "node:assert/strict";
import { test } from "node:test";
import type { PoolRequest } from "../pool.ts";
import { type RouterEntry, routerOf, signalboxEntry } from "../routers.ts";
import { runOnce } from "../run.ts";
import { metTargets, scoreOf } from "../score.ts";
import { POOLS, type PoolSpec } from "../testbed.ts";
import { tracesOrReason } from "../testing.ts";
import { readTrace, type Trace } from "../trace.ts";
import { batchShare, merge, requestsOf, SLOS } from "../workload.ts";
import { SCENARIOS } from "./index.ts";

const traces = tracesOrReason();
const SLO = SLOS["azure-conv"];
let loaded: Trace | undefined;

function conversations(): Trace {
  return (loaded ??= readTrace(traces.folder, "azure-conv"));
}

async function resultsOf(pool: PoolSpec, router: RouterEntry, requests: readonly PoolRequest[]) {
  const { results } = await runOnce({ pool, router, requests, policy: { ttftSloMs: SLO.ttftMs, tpotSloMs: SLO.tpotMs }, seed: 1 });
  return results;
}

test(
  "on unequal machines near their limit Signalbox meets the targets for 5 points more of the requests than least-connections and 20 more than round robin",
  { skip: traces.skip },
  async () => {
    const requests = requestsOf(conversations(), { from: 6_454, count: 2_400, ratePerS: 40 }, SLO);
    const attainment = async (id: string): Promise<number> =>
      100 * scoreOf(await resultsOf(POOLS.heterogeneous, routerOf(id), requests), 6).attainment;
    const own = await attainment("signalbox");
    const least = await attainment("least-connections");
    const turns = await attainment("round-robin");
    assert.ok(own >= 85, `${own.toFixed(1)} %`);
    assert.ok(own >= least + 5, `${own.toFixed(1)} % against ${least.toFixed(1)} %`);
    assert.ok(own >= turns + 20, `${own.toFixed(1)} % against ${turns.toFixed(1)} %`);
  },
);

test(
  "with batch work beyond what the machines can do, people's requests are served at least 30 points better than without scheduling, and every batch request completes",
  { skip: traces.skip },
  async () => {
    const requests = requestsOf(conversations(), { from: 0, count: 1_500, ratePerS: 27 }, SLO, batchShare(0.35, 1));
    const people = async (id: string): Promise<number> => {
      const results = await resultsOf(POOLS.small, routerOf(id), requests);
      assert.deepEqual(
        results.filter(({ error }) => error !== ""),
        [],
      );
      const own = results.filter(({ request }) => request.class === "interactive");
      return (100 * own.filter(metTargets).length) / own.length;
    };
    const scheduled = await people("signalbox");
    const unscheduled = await people("least-connections");
    assert.ok(scheduled >= unscheduled + 30, `${scheduled.toFixed(1)} % against ${unscheduled.toFixed(1)} %`);
  },
);

test(
  "a tenant that sends twenty times its share makes the other's whole answers at most half as slow again where machines are not overfilled",
  { skip: traces.skip },
  async () => {
    const router = signalboxEntry("signalbox", { limits: "fixed", concurrency: 4, interactiveQueue: { queue: 256, maxWaitS: 10 } });
    const quiet = requestsOf(conversations(), { from: 0, count: 120, ratePerS: 2 }, SLO, () => ({
      tenant: "tenant-b",
      class: "interactive",
    }));
    const loud = requestsOf(conversations(), { from: 5_000, count: 2_400, ratePerS: 40 }, SLO);
    const wholeP99 = async (requests: readonly PoolRequest[]): Promise<number> => {
      const results = await resultsOf(POOLS.small, router, requests);
      return scoreOf(results, 4, ({ request, error }) => request.tenant === "tenant-b" && error === "").endToEndP99Ms;
    };
    const alone = await wholeP99(quiet);
    const beside = await wholeP99(merge(quiet, loud));
    assert.ok(beside <= 1.5 * alone, `${beside.toFixed(0)} ms against ${alone.toFixed(0)} ms`);
  },
);

test("scenarios have ids of the plan, each once, and know how much they run", () => {
  assert.equal(new Set(SCENARIOS.map(({ id }) => id)).size, SCENARIOS.length);
  for (const scenario of SCENARIOS) {
    const runs = (effort: { quick: boolean; seeds: number }): number => scenario.runs(effort);
    assert.match(scenario.id, /^S\d+$/);
    assert.ok(runs({ quick: true, seeds: 1 }) > 0 && runs({ quick: false, seeds: 2 }) >= runs({ quick: true, seeds: 1 }));
  }
});
