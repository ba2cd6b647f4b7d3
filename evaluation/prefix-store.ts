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
    for (const block of blocks) {
      this.#blocks.delete(block);
      this.#blocks.set(block, true);
    }
    for (const block of this.#blocks.keys()) {
      if (this.#blocks.size <= this.#capacity) break;
      this.#blocks.delete(block);
    }
  }
}
