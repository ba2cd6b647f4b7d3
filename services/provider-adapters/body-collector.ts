const NOTHING = Buffer.alloc(0);

/** Gathers a body up to a bound. */
export class BodyCollector {
  readonly #maxBytes: number;
  readonly #chunks: Buffer[] = [];
  #length = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Takes a chunk; false when the bound is passed: then what fits is kept, and the rest is not wanted. */
  add(chunk: Buffer): boolean {
    const room = this.#maxBytes - this.#length;
    const kept = chunk.length <= room ? chunk : chunk.subarray(0, room);
    this.#chunks.push(kept);
    this.#length += kept.length;
    return kept === chunk;
  }

  /** Everything so far, in one piece; a single chunk uncopied. */
  bytes(): Buffer {
    const [only = NOTHING] = this.#chunks;
    return this.#chunks.length <= 1 ? only : Buffer.concat(this.#chunks, this.#length);
  }
}
