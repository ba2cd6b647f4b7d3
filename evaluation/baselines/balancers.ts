import type { Random } from "#libs/clock/index.ts";
import type { PoolView } from "../pool.ts";
import { argmin, type Account, type Strategy } from "./accounts.ts";

/** Uniformly random. */
export function randomChoice(view: PoolView, random: Random): Strategy {
  return { name: "random", choose: () => random.int(view.backends.length) };
}

/** In turn. */
export function roundRobin(view: PoolView): Strategy {
  let next = 0;
  return { name: "round-robin", choose: () => next++ % view.backends.length };
}

/** Fewest in flight (Olla's default, LiteLLM's least-busy); equals at random, as those do by their map's order. */
export function leastConnections(view: PoolView, random: Random): Strategy {
  return {
    name: "least-connections",
    choose: (_request, accounts) => argmin(view.backends.length, (index) => accounts[index]!.inFlight + random.next() * 1e-3),
  };
}

/** The less loaded of two drawn at random. */
export function powerOfTwo(view: PoolView, random: Random): Strategy {
  return { name: "p2c", choose: (_request, accounts) => betterOfTwo(view, random, (index) => accounts[index]!.inFlight) };
}

/** Finagle's peak EWMA over two drawn at random: cost = decayed peak latency * (in flight + 1), tau 10 s. */
export function peakEwma(view: PoolView, random: Random): Strategy {
  const tauMs = 10_000;
  const state = view.backends.map(() => ({ cost: 0, atMs: 0 }));
  return {
    name: "peak-ewma",
    choose: (_request, accounts) => betterOfTwo(view, random, (index) => (state[index]!.cost || 1) * (accounts[index]!.inFlight + 1)),
    done: (_request, backend, tookMs) => {
      const own = state[backend]!;
      const nowMs = view.clock.monotonicMs();
      const weight = Math.exp(-(nowMs - own.atMs) / tauMs);
      own.cost = tookMs > own.cost ? tookMs : own.cost * weight + tookMs * (1 - weight);
      own.atMs = nowMs;
    },
  };
}

/** In flight per known capacity: what an oracle of hardware would do with least connections. */
export function capacityWeighted(view: PoolView, capacities: readonly number[]): Strategy {
  return {
    name: "capacity-least-conn (oracle)",
    choose: (_request, accounts) => argmin(view.backends.length, (index) => (accounts[index]!.inFlight + 1) / capacities[index]!),
  };
}

/** Always the first (Olla priority, LiteLLM order): everything goes to it, since nothing fails. */
export function staticPriority(): Strategy {
  return { name: "static-priority", choose: () => 0 };
}

function betterOfTwo(view: PoolView, random: Random, cost: (index: number) => number): number {
  const a = random.int(view.backends.length);
  let b = random.int(view.backends.length - 1);
  if (b >= a) b++;
  return cost(a) <= cost(b) ? a : b;
}

/** LiteLLM's latency-based-routing: lowest mean latency per token over the last hour, unseen ones first. */
export function litellmLatency(view: PoolView, random: Random): Strategy {
  return {
    name: "litellm-latency",
    choose: (_request, accounts) => argmin(view.backends.length, (index) => accounts[index]!.perTokenMs + random.next() * 1e-9),
  };
}

/** LiteLLM's usage-based-routing-v2: fewest tokens in the current minute. */
export function litellmUsage(view: PoolView, random: Random): Strategy {
  let minute = 0;
  let used = view.backends.map(() => 0);
  const roll = (): void => {
    const now = Math.floor(view.clock.now() / 60_000);
    if (now === minute) return;
    minute = now;
    used = used.map(() => 0);
  };
  return {
    name: "litellm-usage-v2",
    choose: () => {
      roll();
      return argmin(view.backends.length, (index) => used[index]! + random.next() * 1e-3);
    },
    done: (request, backend) => {
      roll();
      used[backend] = used[backend]! + request.inputTokens + request.outputTokens;
    },
  };
}

/** In turn by weight: smooth weighted round robin as nginx has it. */
export function weightedRoundRobin(weights: readonly number[]): Strategy {
  const current = weights.map(() => 0);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return {
    name: "weighted-round-robin",
    choose: () => {
      for (const [index, weight] of weights.entries()) current[index]! += weight;
      const chosen = argmin(weights.length, (index) => -current[index]!);
      current[chosen]! -= total;
      return chosen;
    },
  };
}

/** LiteLLM's simple-shuffle: at random by configured requests per minute. */
export function simpleShuffle(weights: readonly number[], random: Random): Strategy {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return {
    name: "litellm-simple-shuffle",
    choose: () => {
      let left = random.next() * total;
      for (const [index, weight] of weights.entries()) {
        left -= weight;
        if (left < 0) return index;
      }
      return weights.length - 1;
    },
  };
}

/** LiteLLM's cost-based routing takes the cheapest, always the same one. */
export function litellmCost(prices: readonly number[]): Strategy {
  const cheapest = argmin(prices.length, (index) => prices[index]!);
  return { name: "litellm-cost", choose: (_request: unknown, _accounts: readonly Account[]) => cheapest };
}
