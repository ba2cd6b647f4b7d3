import { aheadBy, type Case, measure, over, type Sample } from "./measure.ts";
import type { RouterEntry } from "./routers.ts";
import type { ScenarioContext, Table } from "./scenario.ts";
import type { PoolSpec } from "./testbed.ts";
import type { Slo } from "./workload.ts";

/** A router and its runs. */
export interface Measured {
  readonly router: RouterEntry;
  readonly samples: readonly Sample[];
}

/** Runs several routers over the same cases. */
export async function measureAll(
  context: ScenarioContext,
  pool: PoolSpec,
  routers: readonly RouterEntry[],
  cases: readonly Case[],
  slo: Slo,
): Promise<Measured[]> {
  const measured: Measured[] = [];
  for (const router of routers) measured.push({ router, samples: await measure(context, pool, router, cases, slo) });
  return measured;
}

/** The one all others are held against. Throws when it was not run. */
export function ownOf(measured: readonly Measured[]): Measured {
  const own = measured.find(({ router }) => router.kind === "signalbox");
  if (own === undefined) throw new Error("Signalbox was not among the routers");
  return own;
}

/** Routers with their figures, best first. */
export function routerTable(title: string, measured: readonly Measured[]): Table {
  const own = ownOf(measured);
  const rows = measured.map(({ router, samples }) => ({
    router: router.id,
    kind: router.kind,
    attainment: over(samples, ({ attainment }) => attainment),
    ahead: router === own.router ? undefined : aheadBy(own.samples, samples),
    ttftP50: over(samples, ({ ttftP50Ms }) => ttftP50Ms).mean,
    ttftP99: over(samples, ({ ttftP99Ms }) => ttftP99Ms).mean,
    tpotP99: over(samples, ({ tpotP99Ms }) => tpotP99Ms).mean,
    endToEndP99: over(samples, ({ endToEndP99Ms }) => endToEndP99Ms).mean / 1_000,
    hits: over(samples, ({ hitRate }) => hitRate).mean,
    errors: samples.reduce((sum, { errors }) => sum + errors, 0),
  }));
  return {
    title,
    columns: [
      { key: "router", label: "router", unit: "text" },
      { key: "kind", label: "kind", unit: "text" },
      { key: "attainment", label: "targets met", unit: "share" },
      { key: "ahead", label: "Signalbox ahead by", unit: "points" },
      { key: "ttftP50", label: "TTFT p50", unit: "ms" },
      { key: "ttftP99", label: "TTFT p99", unit: "ms" },
      { key: "tpotP99", label: "TPOT p99", unit: "ms" },
      { key: "endToEndP99", label: "whole p99", unit: "s" },
      { key: "hits", label: "prefix hits", unit: "share" },
      { key: "errors", label: "errors", unit: "count" },
    ],
    rows: rows.toSorted((a, b) => b.attainment.mean - a.attainment.mean),
  };
}

/** How the rivals stand, the closest first: percentage points Signalbox is ahead by. */
export function rivalsOf(measured: readonly Measured[]): readonly { readonly id: string; readonly mean: number; readonly half: number }[] {
  const own = ownOf(measured);
  return measured
    .filter(({ router }) => router.kind === "baseline")
    .map(({ router, samples }) => ({ id: router.id, ...aheadBy(own.samples, samples) }))
    .toSorted((a, b) => a.mean - b.mean);
}
