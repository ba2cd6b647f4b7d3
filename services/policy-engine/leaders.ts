import { prefillMsPerToken } from "./predict.ts";
import { tokensOf } from "./prefix-cache.ts";
import type { CompiledBackend } from "./snapshot.ts";
import type { BackendState } from "./state.ts";

/** Longest that a request waits for the one that computes the beginning of its prompt, ms (routing, section 1.10). */
export const FOLLOW_MAX_MS = 250;

/** Prompts remembered as being computed at one engine: more than the slots such engines have. Others are not waited for. */
const LEADERS_MAX = 64;

/** A prompt that is being computed at an engine that shares a prefix only once it is computed. */
export interface Leader {
  /** Keys of its blocks. */
  readonly keys: Float64Array;
  /** Leading blocks the engine held before. */
  readonly known: number;
  /** Prompt tokens it computes. */
  readonly prefillTokens: number;
  /** When its first token is predicted, monotonic ms. */
  readonly dueMs: number;
  /** Called once, when its first token came or it ended. */
  readonly followers: Set<() => void>;
}

/** What waiting for a leader is worth to one request. */
export interface Follow {
  readonly leader: Leader;
  /** Prompt tokens that are in the cache then. */
  readonly cachedTokens: number;
  /** Predicted wait, ms. */
  readonly waitMs: number;
  /** Longest wait that is not longer than what it gains, ms. */
  readonly mostMs: number;
}

/** The leaders of one engine. */
export class Leaders {
  readonly #all: Leader[] = [];

  get size(): number {
    return this.#all.length;
  }

  /** A prompt of these blocks goes to the engine, which holds the first `known`. Undefined when nothing of it is new, or there are too many. */
  add(keys: Float64Array, count: number, known: number, prefillTokens: number, dueMs: number): Leader | undefined {
    if (known >= count || this.#all.length >= LEADERS_MAX) return undefined;
    const leader: Leader = { keys: keys.slice(0, count), known, prefillTokens, dueMs, followers: new Set() };
    this.#all.push(leader);
    return leader;
  }

  /** Its prompt is computed, or will not be: whoever waits for it goes on. */
  end(leader: Leader): void {
    const at = this.#all.indexOf(leader);
    if (at >= 0) this.#all.splice(at, 1);
    const followers = [...leader.followers];
    leader.followers.clear();
    for (const follower of followers) follower();
  }

  /** Blocks of `held` that are computed already. */
  ready(keys: Float64Array, count: number, held: number): number {
    let ready = held;
    for (const leader of this.#all) {
      const shared = sharedBlocks(leader, keys, count);
      if (shared > leader.known) ready = Math.min(ready, leader.known);
    }
    return ready;
  }

  /** The leader that shares the most blocks; the first of equals. */
  best(keys: Float64Array, count: number): { readonly leader: Leader; readonly shared: number } | undefined {
    let best: Leader | undefined;
    let most = 0;
    for (const leader of this.#all) {
      const shared = sharedBlocks(leader, keys, count);
      if (shared <= most || shared <= leader.known) continue;
      best = leader;
      most = shared;
    }
    return best && { leader: best, shared: most };
  }
}

/** Hashes are chained: the border of what two prompts share is found by a binary search. */
function sharedBlocks({ keys }: Leader, other: Float64Array, count: number): number {
  let low = 0;
  let high = Math.min(keys.length, count);
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (keys[middle - 1] === other[middle - 1]) low = middle;
    else high = middle - 1;
  }
  return low;
}

/**
 * Whether a request does better to wait for a leader at this engine. Beside it, the engine would compute the shared part twice before
 * either had a first token: the gain is that time, and a wait must be shorter than it. `ready` of its blocks are computed already.
 */
export function followOf(
  backend: CompiledBackend,
  state: BackendState,
  keys: Float64Array,
  count: number,
  ready: number,
  nowMs: number,
): Follow | undefined {
  const best = state.leaders.best(keys, count);
  if (best === undefined) return undefined;
  const cachedTokens = tokensOf(best.shared);
  const gainMs = prefillMsPerToken(backend, state) * (best.leader.prefillTokens + cachedTokens - tokensOf(ready));
  const mostMs = Math.min(FOLLOW_MAX_MS, gainMs);
  // One that is late is taken to be late as long again.
  const waitMs = Math.abs(best.leader.dueMs - nowMs);
  return waitMs < mostMs ? { leader: best.leader, cachedTokens, waitMs, mostMs } : undefined;
}
