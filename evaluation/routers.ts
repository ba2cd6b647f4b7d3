import { SeededRandom } from "#libs/clock/fake.ts";
import type { EventBus } from "#libs/bus/index.ts";
import { placeAtOnce, type Strategy } from "./baselines/accounts.ts";
import * as balancers from "./baselines/balancers.ts";
import * as gpu from "./baselines/gpu-routers.ts";
import { SimulatedEngine } from "./engine.ts";
import type { PoolView, Router } from "./pool.ts";
import type { PolicyOptions } from "./signalbox-config.ts";
import { signalboxRouter } from "./signalbox-router.ts";
import type { Testbed } from "./testbed.ts";
import { virtualBus } from "./virtual-bus.ts";

/** Makes a router over a fresh pool; `seed` is all its chance. */
type RouterFactory = (bed: Testbed, policy: PolicyOptions, seed: number) => Router | Promise<Router>;

/** Group of a router in tables. */
export type RouterKind = "signalbox" | "baseline" | "oracle" | "ablation";

/** A router by id. */
export interface RouterEntry {
  readonly id: string;
  readonly kind: RouterKind;
  readonly make: RouterFactory;
}

function strategy(id: string, make: (view: PoolView, random: SeededRandom) => Strategy, kind: RouterKind = "baseline"): RouterEntry {
  return { id, kind, make: (bed, _policy, seed) => placeAtOnce(bed, make(bed, new SeededRandom(seed))) };
}

/** Signalbox with what an ablation changes of its configuration. */
export function signalboxEntry(id: string, change: Partial<PolicyOptions> = {}, kind: RouterKind = "signalbox"): RouterEntry {
  return {
    id,
    kind,
    make: (bed, policy, seed) => signalboxOver(bed, id, { ...policy, ...change }, seed, virtualBus(bed.clock)),
  };
}

function signalboxOver(bed: Testbed, id: string, policy: PolicyOptions, seed: number, bus: EventBus): Promise<Router> {
  const random = new SeededRandom(seed);
  return signalboxRouter(bed, id, { policy, bus, random, engineId: "engine-1", monitor: true });
}

/** Context that capacities are compared at, tokens, and the pace they are compared by, ms. */
const USUAL_CONTEXT = 1_200;
const PACE_MS = 45;

/** Sequences each backend decodes at 45 ms per token with usual contexts: what an operator who measured the hardware would configure as weights. */
function capacitiesOf(view: PoolView): number[] {
  return view.backends.map(({ server }) => {
    if (!(server instanceof SimulatedEngine)) return 1;
    const { baseMs, decodeMs, kvMs } = server.profile;
    return (PACE_MS - baseMs) / (decodeMs + kvMs * USUAL_CONTEXT);
  });
}

/** Every router of the plan (design: routing, section 2.3). */
export const ROUTERS: readonly RouterEntry[] = [
  signalboxEntry("signalbox"),
  strategy("random", balancers.randomChoice),
  strategy("round-robin", balancers.roundRobin),
  strategy("weighted-round-robin", (view) => balancers.weightedRoundRobin(capacitiesOf(view))),
  strategy("least-connections", balancers.leastConnections),
  strategy("p2c", balancers.powerOfTwo),
  strategy("peak-ewma-p2c", balancers.peakEwma),
  strategy("static-priority", () => balancers.staticPriority()),
  strategy("litellm-simple-shuffle", (view, random) => balancers.simpleShuffle(capacitiesOf(view), random)),
  strategy("litellm-latency", balancers.litellmLatency),
  strategy("litellm-usage-v2", balancers.litellmUsage),
  strategy("litellm-cost", (view) => balancers.litellmCost(view.backends.map(({ rentUsd }) => rentUsd))),
  strategy("llm-d-epp@50ms", (view, random) => gpu.endpointPicker(view, random, 50)),
  strategy("llm-d-epp@500ms", (view, random) => gpu.endpointPicker(view, random, 500)),
  strategy("smg-cache-aware", gpu.cacheAware),
  strategy("smg-least-load", gpu.leastLoad),
  strategy("dynamo-linear", gpu.dynamoLinear),
  strategy("dynamo-lmetric", gpu.dynamoProduct),
  strategy("capacity-least-conn", (view) => balancers.capacityWeighted(view, capacitiesOf(view)), "oracle"),
];

/** The router of an id. Throws when there is none. */
export function routerOf(id: string): RouterEntry {
  const entry = ROUTERS.find((candidate) => candidate.id === id);
  if (entry === undefined) throw new Error(`There is no router '${id}'; there are: ${ROUTERS.map((each) => each.id).join(", ")}`);
  return entry;
}
