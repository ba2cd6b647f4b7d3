import { type CloudProfile, CLOUDS } from "../cloud.ts";
import type { PoolRequest, PoolView, RequestResult, Router } from "../pool.ts";
import { type RouterEntry, routerOf } from "../routers.ts";
import type { Point, Scenario, ScenarioContext, ScenarioResult } from "../scenario.ts";
import { metTargets } from "../score.ts";
import { POOLS, type PoolSpec, rentOf } from "../testbed.ts";
import { requestsOf, SLOS } from "../workload.ts";

/** Loads, requests/s. The owned machines alone can do about twenty. */
const RATES = [0.5, 1, 2, 4, 8, 12, 16, 19, 24, 28];
const RATES_QUICK = [1, 8, 19, 28];

/** Moderate load: where the goals are held. */
const MODERATE = 19;

const REQUESTS = 4_000;
const REQUESTS_QUICK = 1_500;

/** In-flight cap of the rule of thumb that overflow is compared with. */
const CAP = 32;

const SAVING_GOAL = 0.7;
const ATTAINMENT_GOAL = 0.98;

interface Account {
  readonly rate: number;
  readonly attainment: number;
  readonly cloudShare: number;
  /** USD per hour: rent and overflow together, and the same requests all at the provider. */
  readonly paidUsd: number;
  readonly allCloudUsd: number;
}

/** S5: own machines first, a cloud when they would be late. */
export const overflow: Scenario = {
  id: "S5",
  title: "Overload, overflow and money",
  runs: ({ quick }) => 6 * (quick ? RATES_QUICK : RATES).length,
  run: async (context) => {
    const premium = await against(context, CLOUDS.premium);
    const small = await against(context, CLOUDS.small);
    const at = (accounts: readonly Account[]): Account => accounts.find(({ rate }) => rate === MODERATE)!;
    const own = at(premium.signalbox);
    const saved = savingOf(own);
    return {
      text: [
        `Two A100 ($1.60/h each) and two L40S ($0.80/h each), rented all the time, with a cloud behind them; Azure conversations. The saving is against sending every request to that one provider, idle rent included. It says nothing about answer quality: the premium model may be worth its price.`,
        `The premium provider asks $${CLOUDS.premium.inputUsd} and $${CLOUDS.premium.outputUsd} per million tokens, the small one $${CLOUDS.small.inputUsd} and $${CLOUDS.small.outputUsd}. Below the break-even owning loses: rent is paid for idle machines.`,
      ],
      tables: [premium.table, small.table],
      plots: [
        {
          file: "s5-saving",
          title: "Saving against sending everything to one provider",
          xLabel: "requests per second",
          yLabel: "saved (below zero: owning loses)",
          share: true,
          logX: true,
          yRange: [-1, 1],
          series: [
            { name: "against the premium provider", points: premium.signalbox.map(savingPoint) },
            { name: "against the small provider", points: small.signalbox.map(savingPoint) },
            { name: "no difference", points: [RATES[0]!, RATES.at(-1)!].map((x) => ({ x, y: 0 })) },
          ],
        },
        {
          file: "s5-cost-slo",
          title: "Cost against targets met, loads from 0.5 to 28 requests/s, premium cloud behind",
          xLabel: "USD per 1,000 requests",
          yLabel: "targets met",
          share: true,
          logX: true,
          series: Object.entries(premium.all).map(([name, accounts]) => ({
            name,
            points: accounts.map(costPoint).toSorted((a, b) => a.x - b.x),
          })),
        },
      ],
      checks: [
        {
          what: `Saved against the premium provider at ${MODERATE} requests/s`,
          goal: "70 to 90 %",
          value: percent(saved),
          met: saved >= SAVING_GOAL,
        },
        { what: `Targets met there`, goal: "at least 98 %", value: percent(own.attainment), met: own.attainment >= ATTAINMENT_GOAL },
      ],
    };
  },
};

async function against(context: ScenarioContext, cloud: CloudProfile) {
  const pool: PoolSpec = { ...POOLS.small, clouds: [cloud] };
  const routers: readonly RouterEntry[] = [routerOf("signalbox"), fixedCap(CAP), routerOf("least-connections")];
  const all: Record<string, Account[]> = {};
  for (const router of routers) {
    const accounts: Account[] = [];
    for (const rate of context.quick ? RATES_QUICK : RATES) accounts.push(await accountOf(context, pool, cloud, router, rate));
    all[router.id] = accounts;
  }
  const rows = Object.entries(all).flatMap(([router, accounts]) =>
    accounts.map((account) => ({ router, ...account, saving: savingOf(account) })),
  );
  const table: ScenarioResult["tables"][number] = {
    title: `Overflow to ${cloud.name}`,
    columns: [
      { key: "router", label: "router", unit: "text" },
      { key: "rate", label: "load", unit: "rate" },
      { key: "attainment", label: "targets met", unit: "share" },
      { key: "cloudShare", label: "to the cloud", unit: "share" },
      { key: "paidUsd", label: "paid per hour", unit: "usd" },
      { key: "allCloudUsd", label: "all at the provider", unit: "usd" },
      { key: "saving", label: "saved", unit: "share" },
    ],
    rows,
  };
  return { all, signalbox: all["signalbox"]!, table };
}

async function accountOf(
  context: ScenarioContext,
  pool: PoolSpec,
  cloud: CloudProfile,
  router: RouterEntry,
  rate: number,
): Promise<Account> {
  const slo = SLOS["azure-conv"];
  const requests = requestsOf(
    context.trace("azure-conv"),
    { from: 0, count: context.quick ? REQUESTS_QUICK : REQUESTS, ratePerS: rate },
    slo,
  );
  const policy = { ttftSloMs: slo.ttftMs, tpotSloMs: slo.tpotMs };
  const { results, bed } = await context.run({ pool, router, requests, policy, seed: 1 });
  const hours = requests.at(-1)!.atMs / 3_600_000;
  const paid = results.reduce((sum, { costUsd }) => sum + costUsd, 0);
  return {
    rate,
    attainment: results.filter(metTargets).length / results.length,
    cloudShare: results.filter(({ backend }) => backend === bed.backends.length - 1).length / results.length,
    paidUsd: rentOf(bed) + paid / hours,
    allCloudUsd: results.reduce((sum, result) => sum + priceAt(cloud, result), 0) / hours,
  };
}

function priceAt({ inputUsd, outputUsd }: CloudProfile, { request }: RequestResult): number {
  return (request.inputTokens * inputUsd + request.outputTokens * outputUsd) / 1e6;
}

/** The usual rule: the machine with the fewest in flight, and the cloud when all have `cap`. */
function fixedCap(cap: number): RouterEntry {
  const make = (view: PoolView): Router => {
    const inFlight = view.backends.map(() => 0);
    const cloud = view.backends.length - 1;
    return {
      name: `cap-${cap}`,
      arrive: (_request: PoolRequest, placement) => {
        let best = 0;
        for (let at = 1; at < cloud; at++) if (inFlight[at]! < inFlight[best]!) best = at;
        const chosen = inFlight[best]! >= cap ? cloud : best;
        inFlight[chosen]!++;
        placement.send(chosen);
      },
      done: (_request, backend) => void inFlight[backend]!--,
    };
  };
  return { id: `least-connections, cloud beyond ${cap} in flight`, kind: "baseline", make };
}

function savingOf({ paidUsd, allCloudUsd }: Account): number {
  return 1 - paidUsd / allCloudUsd;
}

function savingPoint(account: Account): Point {
  return { x: account.rate, y: savingOf(account) };
}

function costPoint({ rate, paidUsd, attainment }: Account): Point {
  return { x: (paidUsd / (rate * 3_600)) * 1_000, y: attainment };
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
