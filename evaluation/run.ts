import type { PoolRequest, RequestResult } from "./pool.ts";
import { runPool } from "./pool.ts";
import type { RouterEntry } from "./routers.ts";
import type { PolicyOptions } from "./signalbox-config.ts";
import { createTestbed, hitRateOf, type PoolSpec, type Testbed } from "./testbed.ts";

/** One run: a router over a fresh pool. */
export interface RunSpec {
  readonly pool: PoolSpec;
  readonly router: RouterEntry;
  readonly requests: readonly PoolRequest[];
  readonly policy: PolicyOptions;
  readonly seed: number;
  /** Called when the pool stands, to plan faults on its clock. */
  readonly prepare?: (bed: Testbed) => void;
}

/** What a run left. */
export interface RunOutcome {
  readonly results: readonly RequestResult[];
  readonly bed: Testbed;
  readonly hitRate: number;
}

/** Runs it to the last answer. The same spec gives the same outcome. */
export async function runOnce({ pool, router, requests, policy, seed, prepare }: RunSpec): Promise<RunOutcome> {
  const bed = createTestbed(pool, seed);
  const made = await router.make(bed, policy, seed);
  prepare?.(bed);
  const results = await runPool(bed.clock, bed, made, requests);
  return { results, bed, hitRate: hitRateOf(bed) };
}
