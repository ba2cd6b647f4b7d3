/** Blocks of 64 tokens at a prompt's start, and of 256 behind: what the ingress hashes (routing, section 1.10). */
const FINE_BLOCKS = 16;
const FINE_TOKENS = 64;
const COARSE_TOKENS = 256;

/** Bytes of a hash. */
const HASH_BYTES = 8;

/** Blocks remembered of an engine whose memory is not known: two million tokens. */
const BLOCKS_DEFAULT = 31_250;

/** An engine is taken to hold a block this long after its last use, ms. */
const TTL_MS = 600_000;

/** A block used again within this keeps its place in the order of use: moving it each time would cost more than it tells. */
const TOUCH_MS = 30_000;

/** Most blocks of one prompt looked at; more than the ingress sends. */
export const BLOCKS_MAX = 512;

/** Reads chained block hashes into keys of 53 bits, which collide too rarely to matter. Returns how many. */
export function readKeys(hashes: Uint8Array, keys: Float64Array): number {
  const count = Math.min(keys.length, Math.floor(hashes.length / HASH_BYTES));
  for (let block = 0; block < count; block++) {
    const at = block * HASH_BYTES;
    const low = (hashes[at]! | (hashes[at + 1]! << 8) | (hashes[at + 2]! << 16) | (hashes[at + 3]! << 24)) >>> 0;
    const high = hashes[at + 4]! | (hashes[at + 5]! << 8) | ((hashes[at + 6]! & 0x1f) << 16);
    keys[block] = low + high * 4_294_967_296;
  }
  return count;
}

/** Tokens in the first `blocks` blocks. */
export function tokensOf(blocks: number): number {
  return blocks <= FINE_BLOCKS ? blocks * FINE_TOKENS : FINE_BLOCKS * FINE_TOKENS + (blocks - FINE_BLOCKS) * COARSE_TOKENS;
}

/** What one engine's prefix cache is believed to hold: the blocks of prompts sent there, least recently used first. */
export class PrefixCache {
  readonly #usedMs = new Map<number, number>();

  /** Blocks remembered. */
  get size(): number {
    return this.#usedMs.size;
  }

  /**
   * How many leading blocks it holds. Hashes are chained, so a held block means that those before it were held with it: a binary
   * search finds the border.
   */
  held(keys: Float64Array, count: number, nowMs: number): number {
    let low = 0;
    let high = count;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#holds(keys[middle - 1]!, nowMs)) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** A prompt of these blocks was sent there. Returns how many leading blocks were held before. */
  add(keys: Float64Array, count: number, capacityTokens: number, nowMs: number): number {
    const known = this.held(keys, count, nowMs);
    // Blocks behind the first kilotoken stand for four times as many tokens.
    const perBlock = count === 0 ? FINE_TOKENS : Math.max(FINE_TOKENS, tokensOf(count) / count);
    const blocksMax = capacityTokens > 0 ? Math.ceil(capacityTokens / perBlock) : BLOCKS_DEFAULT;
    for (let block = count - 1; block >= 0; block--) {
      const key = keys[block]!;
      const usedMs = this.#usedMs.get(key);
      if (usedMs !== undefined && nowMs - usedMs < TOUCH_MS) continue;
      this.#usedMs.delete(key);
      this.#usedMs.set(key, nowMs);
    }
    this.#shrink(blocksMax);
    return known;
  }

  /** The engine restarted or dropped much: the older half is gone. */
  halve(): void {
    this.#shrink(this.#usedMs.size >> 1);
  }

  #holds(key: number, nowMs: number): boolean {
    const usedMs = this.#usedMs.get(key);
    return usedMs !== undefined && nowMs - usedMs < TTL_MS;
  }

  #shrink(to: number): void {
    for (const key of this.#usedMs.keys()) {
      if (this.#usedMs.size <= to) return;
      this.#usedMs.delete(key);
    }
  }
}

/** Bytes of hashes waiting to be told to other engines: 4,000 blocks, some hundred new prompts. */
const NEWS_MAX_BYTES = 32 * 1024;

/** Hashes placed since the last message to other engines. Bounded; what does not fit is not told. */
export class PrefixNews {
  #parts: Uint8Array[] = [];
  #bytes = 0;

  get isEmpty(): boolean {
    return this.#bytes === 0;
  }

  /** Blocks of `hashes` from `fromBlock` on are new at the backend. */
  add(hashes: Uint8Array, fromBlock: number): void {
    const part = hashes.subarray(fromBlock * HASH_BYTES, hashes.length - (hashes.length % HASH_BYTES));
    if (part.length === 0 || this.#bytes + part.length > NEWS_MAX_BYTES) return;
    this.#parts.push(part);
    this.#bytes += part.length;
  }

  /** Takes everything out. */
  take(): Uint8Array<ArrayBuffer> {
    const all = new Uint8Array(this.#bytes);
    let at = 0;
    for (const part of this.#parts) {
      all.set(part, at);
      at += part.length;
    }
    this.#parts = [];
    this.#bytes = 0;
    return all;
  }
}
