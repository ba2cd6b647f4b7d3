import { SimulatedEngine } from "../engine.ts";
import type { Placement, PoolRequest, PoolView, Router } from "../pool.ts";
import { BLOCK_TOKENS, touchBlocks } from "../prefix-store.ts";

/** What a router knows of one backend by its own doing. */
export interface Account {
  inFlight: number;
  /** Prompt tokens of requests in flight that have no first token yet, and of all in flight. */
  prefillTokens: number;
  contextTokens: number;
  /** Exponential average of ms per token, fed at the end of requests. */
  perTokenMs: number;
  /** Requests and tokens given so far. */
  requests: number;
  tokens: number;
}

/** Gauges as scraped at a moment. */
export interface Gauges {
  waiting: number;
  running: number;
  kv: number;
}

/** Chooses a backend from accounts; the accounting around it is the same for every baseline. */
export interface Strategy {
  readonly name: string;
  choose(request: PoolRequest, accounts: readonly Account[]): number;
  /** After a choice. */
  placed?(request: PoolRequest, backend: number): void;
  done?(request: PoolRequest, backend: number, tookMs: number): void;
  close?(): void;
}

/** Attempts a baseline makes for a request, as LiteLLM's default of two retries. */
const ATTEMPTS_MAX = 3;

/** An account of nothing. */
export function emptyAccount(): Account {
  return { inFlight: 0, prefillTokens: 0, contextTokens: 0, perTokenMs: 0, requests: 0, tokens: 0 };
}

const FULL: Account = {
  inFlight: 1e9,
  prefillTokens: 1e12,
  contextTokens: 1e12,
  perTokenMs: 1e9,
  requests: 0,
  tokens: 0,
};

/** A router that places at once by a strategy. */
export function placeAtOnce(view: PoolView, strategy: Strategy): Router {
  const accounts: Account[] = view.backends.map(emptyAccount);
  const retries = new Map<number, readonly number[]>();
  const send = (request: PoolRequest, placement: Placement, backend: number): void => {
    const account = accounts[backend]!;
    account.inFlight++;
    account.requests++;
    account.prefillTokens += request.inputTokens;
    account.contextTokens += request.inputTokens;
    strategy.placed?.(request, backend);
    placement.send(backend);
  };
  const leave = (request: PoolRequest, backend: number): void => {
    const account = accounts[backend]!;
    account.inFlight--;
    account.contextTokens -= request.inputTokens;
  };
  return {
    name: strategy.name,
    arrive: (request, placement) => send(request, placement, strategy.choose(request, accounts)),
    failed: (request, backend, failure, placement) => {
      leave(request, backend);
      accounts[backend]!.prefillTokens -= request.inputTokens;
      const tried = retries.get(request.id) ?? [];
      retries.set(request.id, [...tried, backend]);
      if (tried.length + 1 >= ATTEMPTS_MAX) return placement.refuse(failure.reason);
      // Whoever failed it looks full, so that any strategy chooses somebody else.
      const masked = accounts.map((account, at) => (at === backend || tried.includes(at) ? FULL : account));
      send(request, placement, strategy.choose(request, masked));
    },
    firstToken: (request, backend) => void (accounts[backend]!.prefillTokens -= request.inputTokens),
    done: (request, backend, tookMs) => {
      const account = accounts[backend]!;
      leave(request, backend);
      account.tokens += request.inputTokens + request.outputTokens;
      account.perTokenMs = average(account.perTokenMs, tookMs / (request.inputTokens + request.outputTokens));
      strategy.done?.(request, backend, tookMs);
    },
    close: () => strategy.close?.(),
  };
}

function average(old: number, value: number): number {
  return old === 0 ? value : old + 0.1 * (value - old);
}

/** Index of the least score; the first of equals. */
export function argmin(count: number, score: (index: number) => number): number {
  let best = 0;
  let least = Number.POSITIVE_INFINITY;
  for (let index = 0; index < count; index++) {
    const value = score(index);
    if (value < least) {
      least = value;
      best = index;
    }
  }
  return best;
}

/** Scrapes every engine's gauges each `periodMs`; clouds show nothing. */
export function scrape(view: PoolView, periodMs: number): { readonly gauges: readonly Gauges[]; readonly stop: () => void } {
  const gauges: Gauges[] = view.backends.map(() => ({ waiting: 0, running: 0, kv: 0 }));
  const read = (): void => {
    for (const [index, { server }] of view.backends.entries()) {
      if (!(server instanceof SimulatedEngine)) continue;
      const gauge = gauges[index]!;
      gauge.waiting = server.waiting;
      gauge.running = server.running;
      gauge.kv = server.kvUsage;
    }
  };
  const timer = view.clock.every(periodMs, read);
  return { gauges, stop: () => timer.cancel() };
}

/** A router's own guess of what each backend's prefix cache holds: blocks it sent there, least recently used out. */
export class PrefixGuess {
  readonly #blocks: Map<number, true>[];
  readonly #max: number;

  /** `maxBlocks` per backend. */
  constructor(backends: number, maxBlocks = 840) {
    this.#blocks = Array.from({ length: backends }, () => new Map());
    this.#max = maxBlocks;
  }

  /** Leading blocks of the request held by the backend. */
  match(request: PoolRequest, backend: number): number {
    const held = this.#blocks[backend]!;
    let count = 0;
    for (const block of request.blocks) {
      if (!held.has(block)) break;
      count++;
    }
    return count;
  }

  /** Prompt tokens the backend would have to compute. */
  uncached(request: PoolRequest, backend: number): number {
    return Math.max(1, request.inputTokens - this.match(request, backend) * BLOCK_TOKENS);
  }

  note(request: PoolRequest, backend: number): void {
    touchBlocks(this.#blocks[backend]!, request.blocks, this.#max);
  }
}
