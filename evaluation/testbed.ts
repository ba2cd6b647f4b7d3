import { FakeClock, SeededRandom } from "#libs/clock/fake.ts";
import { type CloudProfile, SimulatedCloud } from "./cloud.ts";
import { type EngineProfile, PROFILES } from "./engine-profile.ts";
import { SimulatedEngine } from "./engine.ts";
import type { PoolBackend, PoolView } from "./pool.ts";

/** A machine of a pool, and what it costs. */
interface MachineSpec {
  readonly profile: EngineProfile;
  /** USD per hour. */
  readonly rentUsd: number;
}

/** What a pool is made of. */
export interface PoolSpec {
  readonly name: string;
  readonly machines: readonly MachineSpec[];
  readonly clouds?: readonly CloudProfile[];
}

/** A pool in its own virtual time. */
export interface Testbed extends PoolView {
  readonly clock: FakeClock;
}

/** Rents: an A100 at $1.60 and an L40S at $0.80 make the $4.80 an hour of the plan's small pool; the H100 at a usual market price. */
const H100 = { profile: PROFILES.h100, rentUsd: 2.5 };
const A100 = { profile: PROFILES.a100, rentUsd: 1.6 };
const L40S = { profile: PROFILES.l40s, rentUsd: 0.8 };

/** The pools of the plan (design: routing, sections 0, 1.12 and 2.3). */
export const POOLS = {
  heterogeneous: { name: "2xH100 + 2xA100 + 2xL40S", machines: [H100, H100, A100, A100, L40S, L40S] },
  homogeneous: { name: "4xA100", machines: [A100, A100, A100, A100] },
  prefix: { name: "8xH100", machines: [H100, H100, H100, H100, H100, H100, H100, H100] },
  small: { name: "2xA100 + 2xL40S", machines: [A100, A100, L40S, L40S] },
} as const satisfies Record<string, PoolSpec>;

/** Builds a pool; `seed` is the chance of its clouds. */
export function createTestbed(spec: PoolSpec, seed: number): Testbed {
  const clock = new FakeClock();
  const random = new SeededRandom(seed);
  const machines = spec.machines.map(({ profile, rentUsd }, at) => ({
    name: `${profile.name.toLowerCase()}-${at}`,
    server: new SimulatedEngine(profile, clock),
    rentUsd,
    fault: undefined,
    sent: 0,
  }));
  const clouds = (spec.clouds ?? []).map((profile) => ({
    name: profile.name,
    server: new SimulatedCloud(profile, clock, random),
    rentUsd: 0,
    fault: undefined,
    sent: 0,
  }));
  return { clock, backends: [...machines, ...clouds] satisfies PoolBackend[] };
}

/** Rent of a pool, USD per hour. */
export function rentOf(view: PoolView): number {
  return view.backends.reduce((sum, { rentUsd }) => sum + rentUsd, 0);
}

/** Share of prompt tokens that engines found in their prefix caches. */
export function hitRateOf(view: PoolView): number {
  let prompt = 0;
  let cached = 0;
  for (const { server } of view.backends) {
    if (!(server instanceof SimulatedEngine)) continue;
    prompt += server.promptTokens;
    cached += server.cachedTokens;
  }
  return prompt === 0 ? 0 : cached / prompt;
}
