import type { Random } from "#libs/clock/index.ts";
import type { PoolRequest, PoolView } from "../pool.ts";
import { BLOCK_TOKENS } from "../prefix-store.ts";
import { argmin, PrefixGuess, scrape, type Strategy } from "./accounts.ts";

/** llm-d's endpoint picker with its default weights: 2 * queue + 2 * kv + 3 * prefix, min-max normalised over the candidates, highest score wins. Gauges are scraped. */
export function endpointPicker(view: PoolView, random: Random, periodMs: number): Strategy {
  const { gauges, stop } = scrape(view, periodMs);
  const guess = new PrefixGuess(view.backends.length);
  const count = view.backends.length;
  return {
    name: `llm-d-epp@${periodMs}ms`,
    choose: (request) => {
      const queues = gauges.map((gauge) => gauge.waiting);
      const low = Math.min(...queues);
      const spread = Math.max(...queues) - low;
      return argmin(count, (index) => {
        const queue = spread === 0 ? 1 : 1 - (queues[index]! - low) / spread;
        const prefix = request.blocks.length === 0 ? 0 : guess.match(request, index) / request.blocks.length;
        return -(2 * queue + 2 * (1 - gauges[index]!.kv) + 3 * prefix) + random.next() * 1e-6;
      });
    },
    placed: (request, backend) => guess.note(request, backend),
    close: stop,
  };
}

/** SMG's cache_aware: while balanced (max - min <= 32 in flight, or max <= 1.1 * min) the best prefix match above half, else the one with most room; unbalanced: fewest in flight. */
export function cacheAware(view: PoolView, random: Random): Strategy {
  const guess = new PrefixGuess(view.backends.length);
  const count = view.backends.length;
  return {
    name: "smg-cache-aware",
    choose: (request, accounts) => {
      const loads = accounts.map((account) => account.inFlight);
      const most = Math.max(...loads);
      const least = Math.min(...loads);
      const shortest = (): number => argmin(count, (index) => loads[index]! + random.next() * 1e-3);
      if (most - least > 32 && most > 1.1 * least) return shortest();
      const best = argmin(count, (index) => -guess.match(request, index));
      const rate = request.blocks.length === 0 ? 0 : guess.match(request, best) / request.blocks.length;
      return rate > 0.5 ? best : shortest();
    },
    placed: (request, backend) => guess.note(request, backend),
  };
}

/** SMG's least_load: queued prompt tokens and a barrier on the cache, divided by nothing: capacities are unknown to it here. */
export function leastLoad(view: PoolView): Strategy {
  const { gauges, stop } = scrape(view, 1_000);
  return {
    name: "smg-least-load",
    choose: (_request, accounts) =>
      argmin(view.backends.length, (index) => {
        const kv = Math.min(0.995, gauges[index]!.kv);
        return accounts[index]!.prefillTokens / 8_192 + (0.15 * kv) / (1 - kv) + accounts[index]!.inFlight * 1e-3;
      }),
    close: stop,
  };
}

/** Dynamo's linear cost: prefill blocks this request would add plus decode blocks resident. */
export function dynamoLinear(view: PoolView, random: Random): Strategy {
  return dynamo("dynamo-linear", view, random, (prefill, decode) => prefill + decode);
}

/** Dynamo's lmetric: prefill * (decode + 1). */
export function dynamoProduct(view: PoolView, random: Random): Strategy {
  return dynamo("dynamo-lmetric", view, random, (prefill, decode) => prefill * (decode + 1));
}

function dynamo(name: string, view: PoolView, random: Random, cost: (prefill: number, decode: number) => number): Strategy {
  const guess = new PrefixGuess(view.backends.length);
  return {
    name,
    choose: (request: PoolRequest, accounts) =>
      argmin(view.backends.length, (index) => {
        const { prefillTokens, contextTokens } = accounts[index]!;
        return cost((prefillTokens + guess.uncached(request, index)) / BLOCK_TOKENS, contextTokens / BLOCK_TOKENS) + random.next() * 1e-6;
      }),
    placed: (request, backend) => guess.note(request, backend),
  };
}
