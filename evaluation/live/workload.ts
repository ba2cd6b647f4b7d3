import type { EngineProfile } from "../engine-profile.ts";
import type { PoolRequest } from "../pool.ts";
import { runOnce } from "../run.ts";
import { routerOf } from "../routers.ts";
import { scoreOf } from "../score.ts";
import type { PoolSpec } from "../testbed.ts";
import type { Trace } from "../trace.ts";
import { requestsOf, type Slo } from "../workload.ts";

/** What both runs are given: the same requests, the same machines, the same targets. */
export interface LiveCase {
  readonly pool: PoolSpec;
  readonly requests: readonly PoolRequest[];
  readonly slo: Slo;
  /** Arrivals per second, as the wall clock sees them. */
  readonly ratePerS: number;
}

/** How the case is cut. */
export interface CaseOptions {
  /** Factor on every time of the machines, of the arrivals and of the targets: two cores must not be what limits. */
  readonly stretch: number;
  /** Requests. */
  readonly count: number;
  /** First request of the trace. */
  readonly from: number;
  /** Answers are cut to this many tokens, so that the last of them does not take minutes. */
  readonly outputMax: number;
}

/** The load that everybody is compared at: where least-connections meets the targets for this share (as scenario S2). */
const GOAL = 0.8;

/** Rates searched, per second before stretching, and steps of the search. */
const RATES = [20, 80] as const;
const STEPS = 7;

/** Cuts the slice out of a trace and finds the rate for it, in virtual time. */
export async function liveCase(
  trace: Trace,
  pool: PoolSpec,
  slo: Slo,
  { stretch, count, from, outputMax }: CaseOptions,
): Promise<LiveCase> {
  const requests = trace.requests.map((request) => ({ ...request, outputTokens: Math.min(outputMax, request.outputTokens) }));
  const short: Trace = { ...trace, requests };
  let [low, high]: [number, number] = [...RATES];
  for (let step = 0; step < STEPS; step++) {
    const ratePerS = Math.sqrt(low * high);
    const requests = requestsOf(short, { from, count, ratePerS }, slo);
    const policy = { ttftSloMs: slo.ttftMs, tpotSloMs: slo.tpotMs };
    const { results } = await runOnce({ pool, router: routerOf("least-connections"), requests, policy, seed: 1 });
    if (scoreOf(results, pool.machines.length).attainment >= GOAL) low = ratePerS;
    else high = ratePerS;
  }
  const ratePerS = Math.sqrt(low * high) / stretch;
  const slower = { ttftMs: slo.ttftMs * stretch, tpotMs: slo.tpotMs * stretch };
  return {
    pool: stretchPool(pool, stretch),
    requests: requestsOf(short, { from, count, ratePerS }, slower),
    slo: slower,
    ratePerS,
  };
}

/** The same machines, every iteration `factor` times as long. */
export function stretchPool(pool: PoolSpec, factor: number): PoolSpec {
  return { ...pool, machines: pool.machines.map(({ profile, rentUsd }) => ({ profile: stretchProfile(profile, factor), rentUsd })) };
}

function stretchProfile(profile: EngineProfile, factor: number): EngineProfile {
  return {
    ...profile,
    baseMs: profile.baseMs * factor,
    prefillMs: profile.prefillMs * factor,
    decodeMs: profile.decodeMs * factor,
    kvMs: profile.kvMs * factor,
  };
}
