import { PREFIX_BYTES_PER_TOKEN, PREFIX_MAX_BYTES, PREFIX_WHOLE_BYTES } from "./limits.ts";

/** Block size at the start of a prompt, bytes: 64 tokens, the finest grain engines cache at. */
const FINE_BLOCK_BYTES = 256;

/** Bytes hashed in fine blocks; then blocks are coarse, so that a long prompt stays at some seventy hashes. */
const FINE_BYTES = 4096;

/** Block size behind that, bytes. */
const COARSE_BLOCK_BYTES = 1024;

/**
 * Block size behind what is hashed whole, bytes, and what is read of each: its end. Where two prompts part, what follows differs in
 * practice, so a sample tells as well where that was, at a sixtieth of the time.
 */
const FAR_BLOCK_BYTES = 4096;
const FAR_SAMPLE_BYTES = 64;

/**
 * Two 32-bit lanes that are fed four bytes at a time and mixed at the end of each block: a 64-bit hash that costs about a
 * nanosecond per byte in JavaScript. Not for secrets. The multipliers are those of MurmurHash3's 32-bit variants.
 */
class Lanes {
  low: number;
  high: number;

  constructor(low: number, high: number) {
    this.low = low | 0;
    this.high = high | 0;
  }

  /** Feeds `bytes[from, to)`. */
  feed(bytes: Uint8Array, from: number, to: number): void {
    let low = this.low;
    let high = this.high;
    let at = from;
    for (const end = to - 3; at < end; at += 4) {
      const word = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
      low = Math.imul(low ^ Math.imul(word, 0xcc9e2d51), 0x1b873593);
      low ^= low >>> 15;
      high = Math.imul(high + word, 0x85ebca6b);
      high ^= high >>> 13;
    }
    for (; at < to; at++) {
      low = Math.imul(low ^ bytes[at]!, 0x01000193);
      high = Math.imul(high + bytes[at]!, 0xc2b2ae35);
    }
    this.low = low;
    this.high = high;
  }

  /** Lets every bit of both lanes reach both lanes. */
  mix(): void {
    let low = this.low ^ (this.high >>> 7);
    let high = this.high ^ Math.imul(this.low, 0x9e3779b1);
    low = Math.imul(low ^ (low >>> 16), 0x85ebca6b);
    high = Math.imul(high ^ (high >>> 13), 0xc2b2ae35);
    this.low = low ^ (low >>> 13);
    this.high = high ^ (high >>> 16);
  }
}

/** 64-bit hash of a text as 16 hex digits; empty text gives an empty string. Not for secrets. */
export function hashText(text: string): string {
  if (text === "") return "";
  const bytes = Buffer.from(text);
  const lanes = new Lanes(bytes.length, 0x5bd1e995);
  lanes.feed(bytes, 0, bytes.length);
  lanes.mix();
  return (lanes.high >>> 0).toString(16).padStart(8, "0") + (lanes.low >>> 0).toString(16).padStart(8, "0");
}

/** A run of bytes. */
export interface Extent {
  readonly bytes: Uint8Array;
  readonly from: number;
  readonly to: number;
}

/**
 * Chained hashes of the prompt's blocks, 8 bytes each, little-endian, outermost first (routing, 1.10): 256-byte blocks for
 * the first 4 KiB, then 1 KiB blocks up to 64 KiB, then 4 KiB blocks, of which only the last 64 bytes are read, up to 512 KiB;
 * an unfinished block has no hash. `seed` separates what must never share a cache (tenant, model); `tools` stands in front of
 * the messages, as engines render it; `inputTokens` is the prompt's estimate.
 */
export function prefixHashes(seed: string, tools: Extent | undefined, messages: Extent, inputTokens: number): Uint8Array<ArrayBuffer> {
  const salt = Buffer.from(seed);
  const lanes = new Lanes(salt.length, 0x2545f491);
  lanes.feed(salt, 0, salt.length);
  if (tools) lanes.feed(tools.bytes, tools.from, Math.min(tools.to, tools.from + PREFIX_WHOLE_BYTES));
  lanes.mix();
  const length = messages.to - messages.from;
  const whole = Math.min(length, PREFIX_WHOLE_BYTES);
  const fine = Math.floor(Math.min(whole, FINE_BYTES) / FINE_BLOCK_BYTES);
  const near = fine + Math.floor(Math.max(0, whole - FINE_BYTES) / COARSE_BLOCK_BYTES);
  const reach = Math.min(length, PREFIX_MAX_BYTES, inputTokens * PREFIX_BYTES_PER_TOKEN);
  const count = near + Math.floor(Math.max(0, reach - PREFIX_WHOLE_BYTES) / FAR_BLOCK_BYTES);
  const hashes = new Uint8Array(count * 8);
  let at = messages.from;
  for (let block = 0; block < count; block++) {
    const size = block < fine ? FINE_BLOCK_BYTES : block < near ? COARSE_BLOCK_BYTES : FAR_BLOCK_BYTES;
    lanes.feed(messages.bytes, block < near ? at : at + size - FAR_SAMPLE_BYTES, at + size);
    lanes.mix();
    at += size;
    write32(hashes, block * 8, lanes.low);
    write32(hashes, block * 8 + 4, lanes.high);
  }
  return hashes;
}

function write32(target: Uint8Array, at: number, value: number): void {
  target[at] = value;
  target[at + 1] = value >>> 8;
  target[at + 2] = value >>> 16;
  target[at + 3] = value >>> 24;
}
