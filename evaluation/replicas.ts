import { SeededRandom } from "#libs/clock/fake.ts";
import { SUBJECTS } from "#libs/bus/index.ts";
import type { Account } from "./baselines/accounts.ts";
import { emptyAccount } from "./baselines/accounts.ts";
import type { PoolRequest, Router } from "./pool.ts";
import type { RouterEntry } from "./routers.ts";
import { signalboxRouter } from "./signalbox-router.ts";
import type { Testbed } from "./testbed.ts";
import { virtualBus } from "./virtual-bus.ts";

/** How often replicas tell each other of their load, ms. */
const PUBLISH_MS = 50;

/** Which replica an ingress asks: any, evenly. */
function replicaOf({ id }: PoolRequest, count: number): number {
  return Math.imul(id + 1, 0x9e3779b1) >>> 0 === 0 ? 0 : (Math.imul(id + 1, 0x9e3779b1) >>> 8) % count;
}

/** `count` policy engines that share a bus on which loads arrive `delayMs` late. */
export function signalboxReplicas(count: number, delayMs: number): RouterEntry {
  const id = "signalbox";
  return {
    id,
    kind: "signalbox",
    make: async (bed, policy, seed) => {
      const bus = virtualBus(bed.clock, (subject) => (subject.startsWith(SUBJECTS.loadPublished) ? delayMs : 0));
      const routers: Router[] = [];
      for (let at = 0; at < count; at++) {
        const random = new SeededRandom(seed * 1_000 + at);
        routers.push(await signalboxRouter(bed, id, { policy, bus, random, engineId: `engine-${at + 1}`, monitor: at === 0 }));
      }
      return spread(id, routers);
    },
  };
}

/** Hands each request, and all that becomes of it, to one of several routers. */
function spread(name: string, routers: readonly Router[]): Router {
  const of = (request: PoolRequest): Router => routers[replicaOf(request, routers.length)]!;
  return {
    name,
    arrive: (request, placement) => of(request).arrive(request, placement),
    firstToken: (request, ...rest) => of(request).firstToken?.(request, ...rest),
    gap: (request, ...rest) => of(request).gap?.(request, ...rest),
    done: (request, ...rest) => of(request).done?.(request, ...rest),
    failed: (request, ...rest) => of(request).failed?.(request, ...rest),
    close: () => {
      for (const router of routers) router.close?.();
    },
  };
}

/** Chooses by the requests in flight that a replica believes in. */
export type ReplicaChoice = (inFlight: readonly number[], random: SeededRandom) => number;

/** Fewest in flight. */
export const leastOf: ReplicaChoice = (inFlight, random) => {
  const least = Math.min(...inFlight);
  const equal = [...inFlight.keys()].filter((at) => inFlight[at] === least);
  return equal[random.int(equal.length)]!;
};

/** The better of two drawn at random. */
export const betterOfTwo: ReplicaChoice = (inFlight, random) => {
  const a = random.int(inFlight.length);
  const b = (a + 1 + random.int(inFlight.length - 1)) % inFlight.length;
  return inFlight[a]! <= inFlight[b]! ? a : b;
};

/** The same state exchange for a baseline: own requests at once, those of the others as published, `delayMs` late. */
export function baselineReplicas(id: string, count: number, delayMs: number, choose: ReplicaChoice): RouterEntry {
  return { id, kind: "baseline", make: (bed, _policy, seed) => exchanging(bed, id, count, delayMs, choose, new SeededRandom(seed)) };
}

function exchanging(bed: Testbed, name: string, count: number, delayMs: number, choose: ReplicaChoice, random: SeededRandom): Router {
  const zero = (): Account[] => bed.backends.map(emptyAccount);
  const own = Array.from({ length: count }, zero);
  const heard = Array.from({ length: count }, () => bed.backends.map(() => 0));
  const timer = bed.clock.every(PUBLISH_MS, () => {
    for (const [replica, accounts] of own.entries()) {
      const vector = accounts.map(({ inFlight }) => inFlight);
      bed.clock.after(delayMs, () => void (heard[replica] = vector));
    }
  });
  return {
    name,
    arrive: (request, placement) => {
      const self = replicaOf(request, count);
      const believed = own[self]!.map(
        ({ inFlight }, at) => inFlight + heard.reduce((sum, other, replica) => (replica === self ? sum : sum + other[at]!), 0),
      );
      const chosen = choose(believed, random);
      own[self]![chosen]!.inFlight++;
      placement.send(chosen);
    },
    done: (request, backend) => void own[replicaOf(request, count)]![backend]!.inFlight--,
    close: () => timer.cancel(),
  };
}
