import { crc32 } from "node:zlib";
import type { CacheBreakpoint } from "./call.ts";
import { BLOCK_TOKENS, BYTES_PER_TOKEN, type PromptMeter } from "./tokens.ts";

const BLOCK_CHARACTERS = BLOCK_TOKENS * BYTES_PER_TOKEN;

/** Lives of explicit cache entries, ms. */
const TTL_MS = { "5m": 300_000, "1h": 3_600_000 } as const;

/** Explicit entries kept; a provider has no such limit, a simulator's memory does. */
const ENTRIES_MAX = 10_000;

/** What the cache did for one prompt, in tokens. */
export interface CacheUse {
  readonly read: number;
  readonly write5m: number;
  readonly write1h: number;
}

export const NO_CACHE_USE: CacheUse = { read: 0, write5m: 0, write1h: 0 };

/** A backend's prompt cache: an LRU of 64-token blocks (engines, OpenAI), and prefixes kept until a time (Anthropic). */
export class PrefixCache {
  readonly #blocks = new Set<number>();
  readonly #blocksMax: number;
  readonly #prefixes = new Map<number, { readonly untilMs: number; readonly tokens: number }>();
  /** Tokens looked up and found, for the engine's counters. */
  queries = 0;
  hits = 0;

  /** `capacityTokens` bounds the blocks. */
  constructor(capacityTokens: number) {
    this.#blocksMax = Math.max(1, Math.floor(capacityTokens / BLOCK_TOKENS));
  }

  /** Looks the prompt up and stores it. At least one token is always computed anew. */
  useBlocks(prompt: PromptMeter): CacheUse {
    const { text } = prompt;
    this.queries += prompt.tokens;
    const blocks = Math.floor(text.length / BLOCK_CHARACTERS);
    if (blocks === 0) return NO_CACHE_USE;
    let hash = 0;
    let found = 0;
    let hitting = true;
    for (let block = 0; block < blocks; block++) {
      hash = crc32(text.slice(block * BLOCK_CHARACTERS, (block + 1) * BLOCK_CHARACTERS), hash);
      const known = this.#blocks.delete(hash);
      this.#blocks.add(hash);
      hitting &&= known;
      if (hitting) found++;
    }
    this.#evictBlocks();
    const read = Math.min(found * BLOCK_TOKENS, prompt.tokens - 1);
    this.hits += read;
    return read === 0 ? NO_CACHE_USE : { read, write5m: 0, write1h: 0 };
  }

  /** Reads the longest stored prefix that ends at one of the points, writes up to the last of them. */
  usePoints(prompt: PromptMeter, points: readonly CacheBreakpoint[], nowMs: number): CacheUse {
    this.queries += prompt.tokens;
    let read = 0;
    let written = 0;
    const writes = { "5m": 0, "1h": 0 };
    for (const point of points) {
      const key = crc32(prompt.text.slice(0, point.characters));
      const stored = this.#prefixes.get(key);
      if (stored && stored.untilMs > nowMs && stored.tokens === point.tokens) {
        read = written = point.tokens;
        writes["5m"] = writes["1h"] = 0;
      } else {
        writes[point.ttl] += point.tokens - written;
        written = point.tokens;
      }
      this.#prefixes.delete(key);
      this.#prefixes.set(key, { untilMs: nowMs + TTL_MS[point.ttl], tokens: point.tokens });
    }
    for (const oldest of this.#prefixes.keys()) {
      if (this.#prefixes.size <= ENTRIES_MAX) break;
      this.#prefixes.delete(oldest);
    }
    this.hits += read;
    return { read, write5m: writes["5m"], write1h: writes["1h"] };
  }

  /** Forgets everything, as a restarted engine does. */
  clear(): void {
    this.#blocks.clear();
    this.#prefixes.clear();
  }

  #evictBlocks(): void {
    for (const oldest of this.#blocks) {
      if (this.#blocks.size <= this.#blocksMax) break;
      this.#blocks.delete(oldest);
    }
  }
}
