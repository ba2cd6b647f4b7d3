/** Blocks of 64 tokens at a prompt's start, then of 256, and of 1,024 behind 16,384: what the ingress hashes (routing, section 1.10). */
const FINE_BLOCKS = 16;
const FINE_TOKENS = 64;
const COARSE_BLOCKS = 60;
const COARSE_TOKENS = 256;
const FAR_TOKENS = 1_024;

/** Tokens of a block by what `packed` says of its size. */
const SIZES = [FINE_TOKENS, COARSE_TOKENS, FAR_TOKENS] as const;
const SIZE_BITS = 4;

/** Bytes of a hash. */
const HASH_BYTES = 8;

/** Tokens remembered of an engine whose memory is not known. */
const CAPACITY_DEFAULT = 2_000_000;

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
  const coarse = Math.min(COARSE_BLOCKS, Math.max(0, blocks - FINE_BLOCKS));
  const far = Math.max(0, blocks - FINE_BLOCKS - COARSE_BLOCKS);
  return Math.min(blocks, FINE_BLOCKS) * FINE_TOKENS + coarse * COARSE_TOKENS + far * FAR_TOKENS;
}

/** Which of SIZES the block at this place of a prompt has. */
function sizeAt(block: number): number {
  return block < FINE_BLOCKS ? 0 : block < FINE_BLOCKS + COARSE_BLOCKS ? 1 : 2;
}

/** When a block was last used and which size it has, in one number: a map of objects would cost ten times the memory. */
function packed(usedMs: number, size: number): number {
  return Math.floor(usedMs) * SIZE_BITS + size;
}

function usedMsOf(value: number): number {
  return Math.floor(value / SIZE_BITS);
}

function sizeOf(value: number): number {
  return SIZES[value % SIZE_BITS]!;
}

/** What one engine's prefix cache is believed to hold: the blocks of prompts sent there, least recently used first. */
export class PrefixCache {
  readonly #blocks = new Map<number, number>();
  #tokens = 0;

  /** Blocks remembered. */
  get size(): number {
    return this.#blocks.size;
  }

  /**
   * How many leading blocks it holds. Hashes are chained, so a held block means that those before it were held with it: a binary
   * search finds the border. To look at the ends first would be wrong: blocks used again within half a minute keep their place, so
   * that some in the middle may be dropped before the last.
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
    for (let block = count - 1; block >= 0; block--) {
      const key = keys[block]!;
      const value = this.#blocks.get(key);
      if (value !== undefined) {
        if (nowMs - usedMsOf(value) < TOUCH_MS) continue;
        this.#drop(key, value);
      }
      const size = sizeAt(block);
      this.#blocks.set(key, packed(nowMs, size));
      this.#tokens += SIZES[size]!;
    }
    this.#shrink(capacityTokens > 0 ? capacityTokens : CAPACITY_DEFAULT);
    return known;
  }

  /** The engine restarted or dropped much: the older half is gone. */
  halve(): void {
    this.#shrink(this.#tokens / 2);
  }

  #holds(key: number, nowMs: number): boolean {
    const value = this.#blocks.get(key);
    return value !== undefined && nowMs - usedMsOf(value) < TTL_MS;
  }

  #drop(key: number, value: number): void {
    this.#blocks.delete(key);
    this.#tokens -= sizeOf(value);
  }

  #shrink(toTokens: number): void {
    for (const [key, value] of this.#blocks) {
      if (this.#tokens <= toTokens) return;
      this.#drop(key, value);
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
