/** Longest answer that is looked at or compared, bytes: some 1,300 streamed tokens, or 60,000 in one piece. */
export const COLLECT_MAX_BYTES = 256 * 1024;

/** All answers that are being collected, bytes: beyond it further ones are not looked at. */
const COLLECT_TOTAL_MAX_BYTES = 64 * 1024 * 1024;

/** How a non-empty refusal begins in an answer's JSON. */
const REFUSAL = Buffer.from('"refusal":"');
const QUOTE = 0x22;

const NOTHING = new Uint8Array(0);

/** Bytes of answers collected by all requests together. */
export class CollectMemory {
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  take(bytes: number): boolean {
    if (this.#bytes + bytes > COLLECT_TOTAL_MAX_BYTES) return false;
    this.#bytes += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#bytes -= bytes;
  }
}

/** The answer to a request in an experiment, as its pieces went by: no copies, and no pieces where only signs are looked for. */
export class Collected {
  /** The body that was sent, where the answer is held against it; the request itself lets go of it as soon as it streams. */
  readonly body: Uint8Array;
  /** Whether a piece held a refusal. */
  refused = false;
  readonly #memory: CollectMemory;
  #pieces: Uint8Array[] | undefined;
  #bytes = 0;
  /** Taken from the memory and not given back. */
  #held = 0;

  /** `keeps` = the pieces are wanted. */
  constructor(body: Uint8Array, keeps: boolean, memory: CollectMemory) {
    this.body = keeps ? body : NOTHING;
    this.#pieces = keeps ? [] : undefined;
    this.#memory = memory;
  }

  add(piece: Uint8Array): void {
    this.refused ||= holdsRefusal(piece);
    if (this.#pieces === undefined) return;
    if (this.#bytes + piece.length > COLLECT_MAX_BYTES || !this.#memory.take(piece.length)) return this.#drop();
    this.#bytes += piece.length;
    this.#held += piece.length;
    this.#pieces.push(piece);
  }

  /** In order; undefined = not wanted, too long, or no room. */
  get pieces(): readonly Uint8Array[] | undefined {
    return this.#pieces;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** The request is over: who still wants the pieces counts them. Idempotent. */
  release(): void {
    this.#memory.give(this.#held);
    this.#held = 0;
  }

  #drop(): void {
    this.#pieces = undefined;
    this.#bytes = 0;
    this.release();
  }
}

function holdsRefusal(piece: Uint8Array): boolean {
  const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
  for (let at = bytes.indexOf(REFUSAL); at >= 0; at = bytes.indexOf(REFUSAL, at + 1)) {
    if (bytes[at + REFUSAL.length] !== QUOTE) return true;
  }
  return false;
}
