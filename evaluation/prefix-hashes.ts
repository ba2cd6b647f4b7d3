import { BLOCK_TOKENS } from "./prefix-store.ts";

/** The ingress's blocks: 256 bytes up to 4 KiB, then 1 KiB up to 64 KiB, then 4 KiB up to 512 KiB of prompt. At four bytes per token. */
const FINE_BLOCK_TOKENS = 64;
const FINE_TOKENS = 1_024;
const COARSE_BLOCK_TOKENS = 256;
const COARSE_TOKENS = 16_384;
const FAR_BLOCK_TOKENS = 1_024;
const PROMPT_TOKENS_MAX = 131_072;

/**
 * Prefix hashes as the ingress would send them for a prompt of these blocks: 8 bytes each, little-endian, outermost first, whole
 * blocks only. Ids of a trace are chained already, so a hash is a function of (id, place inside the 512-token block).
 */
export function prefixHashes(blocks: readonly number[], inputTokens: number): Uint8Array {
  if (blocks.length === 0) return new Uint8Array(0);
  const tokens = Math.min(inputTokens, blocks.length * BLOCK_TOKENS, PROMPT_TOKENS_MAX);
  const fine = Math.floor(Math.min(tokens, FINE_TOKENS) / FINE_BLOCK_TOKENS);
  const near = fine + Math.floor(Math.max(0, Math.min(tokens, COARSE_TOKENS) - FINE_TOKENS) / COARSE_BLOCK_TOKENS);
  const count = near + Math.floor(Math.max(0, tokens - COARSE_TOKENS) / FAR_BLOCK_TOKENS);
  const bytes = new Uint8Array(8 * count);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < count; at++) {
    const token = tokenOf(at, fine, near);
    const id = blocks[Math.floor(token / BLOCK_TOKENS)]! + 1;
    const place = token % BLOCK_TOKENS;
    view.setUint32(at * 8, mixed(id, place), true);
    view.setUint32(at * 8 + 4, mixed(place + 1, id), true);
  }
  return bytes;
}

/** A token by which a block is known: its first, or its last where it spans several of the trace's blocks. */
function tokenOf(block: number, fine: number, near: number): number {
  if (block < fine) return block * FINE_BLOCK_TOKENS;
  if (block < near) return FINE_TOKENS + (block - fine) * COARSE_BLOCK_TOKENS;
  return COARSE_TOKENS + (block - near + 1) * FAR_BLOCK_TOKENS - 1;
}

/** 32 well-mixed bits of two numbers (MurmurHash3's finaliser). */
function mixed(a: number, b: number): number {
  let hash = Math.imul(a, 0xcc9e2d51) ^ Math.imul(b + 0x9e3779b9, 0x1b873593);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
