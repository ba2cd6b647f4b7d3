/** Longest answer that is looked at or compared, bytes: some 1,300 streamed tokens, or 60,000 in one piece. */
export const COLLECT_MAX_BYTES = 256 * 1024;

/** A request in an experiment and the pieces of its answer, as they went by: no copies, and none at all of an answer that grows too long. */
export class Collected {
  /** The body that was sent; the request itself lets go of it as soon as it streams. */
  readonly body: Uint8Array;
  #pieces: Uint8Array[] | undefined = [];
  #bytes = 0;

  constructor(body: Uint8Array) {
    this.body = body;
  }

  add(piece: Uint8Array): void {
    if (this.#pieces === undefined) return;
    this.#bytes += piece.length;
    if (this.#bytes > COLLECT_MAX_BYTES) this.drop();
    else this.#pieces.push(piece);
  }

  /** In order; undefined = too long, or dropped. */
  get pieces(): readonly Uint8Array[] | undefined {
    return this.#pieces;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Nobody will look at it. */
  drop(): void {
    this.#pieces = undefined;
    this.#bytes = 0;
  }
}
