import type { RequestResult } from "./pool.ts";

/** Figures of one run. */
export interface Score {
  readonly requests: number;
  /** Share of requests within both targets, 0..1. */
  readonly attainment: number;
  readonly ttftP50Ms: number;
  readonly ttftP99Ms: number;
  readonly tpotP99Ms: number;
  readonly endToEndP99Ms: number;
  readonly costUsd: number;
  /** Share of requests given to each backend. */
  readonly shares: readonly number[];
}

/** Whether a request met its targets. */
export function metTargets({ request, ttftMs, tpotMs }: RequestResult): boolean {
  return ttftMs <= request.ttftSloMs && tpotMs <= request.tpotSloMs;
}

/** Scores the results that `counts` keeps (all by default). */
export function scoreOf(
  results: readonly RequestResult[],
  backends: number,
  counts: (result: RequestResult) => boolean = () => true,
): Score {
  const kept = results.filter(counts);
  const of = (value: (result: RequestResult) => number): number[] => kept.map(value).sort((a, b) => a - b);
  const ttft = of((result) => result.ttftMs);
  const shares = Array.from(
    { length: backends },
    (_, index) => kept.filter((result) => result.backend === index).length / Math.max(1, kept.length),
  );
  return {
    requests: kept.length,
    attainment: kept.filter(metTargets).length / Math.max(1, kept.length),
    ttftP50Ms: quantile(ttft, 0.5),
    ttftP99Ms: quantile(ttft, 0.99),
    tpotP99Ms: quantile(
      of((result) => result.tpotMs),
      0.99,
    ),
    endToEndP99Ms: quantile(
      of((result) => result.endToEndMs),
      0.99,
    ),
    costUsd: kept.reduce((sum, result) => sum + result.costUsd, 0),
    shares,
  };
}

/** Quantile of ascending values by the nearest rank. */
export function quantile(ascending: readonly number[], share: number): number {
  return ascending[Math.min(ascending.length - 1, Math.max(0, Math.ceil(share * ascending.length) - 1))] ?? 0;
}
