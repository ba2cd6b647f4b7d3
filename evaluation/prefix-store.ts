/** Tokens per block of the Mooncake traces. */
export const BLOCK_TOKENS = 512;

/** An engine's prefix cache: least recently used blocks leave first. Block ids are chained, so a hit ends at the first miss. */
export class PrefixStore {
  readonly #capacity: number;
  readonly #blocks = new Map<number, true>();

  /** `capacityTokens` is what the KV cache holds besides running sequences. */
  constructor(capacityTokens: number) {
    this.#capacity = Math.max(1, Math.floor(capacityTokens / BLOCK_TOKENS));
  }

  /** Blocks from the start of the prompt that are cached. */
  match(blocks: readonly number[]): number {
    let count = 0;
    for (const block of blocks) {
      if (!this.#blocks.has(block)) break;
      count++;
    }
    return count;
  }

  /** Notes that these blocks were just used. */
  touch(blocks: readonly number[]): void {
    touchBlocks(this.#blocks, blocks, this.#capacity);
  }
}

/** Moves blocks to the young end of a map held to `most` entries: a prompt's tail ages before its head, without which it is worth nothing. */
export function touchBlocks(held: Map<number, true>, blocks: readonly number[], most: number): void {
  for (let at = blocks.length - 1; at >= 0; at--) {
    const block = blocks[at]!;
    held.delete(block);
    held.set(block, true);
  }
  for (const block of held.keys()) {
    if (held.size <= most) break;
    held.delete(block);
  }
}
