const LF = 0x0a;
const CR = 0x0d;
const BOM = [0xef, 0xbb, 0xbf] as const;

/** First size of the buffer for what is not complete yet: a usual event fits. */
const PENDING_START_BYTES = 1024;

/** What a framer calls. */
export interface FramerOutput {
  /**
   * One or more whole events: line feeds only, no byte order mark, ending in an empty line. Usually a view on the pushed chunk.
   */
  block(bytes: Buffer): void;
  /** An event grew beyond the limit. Once; what is pushed afterwards is ignored. */
  overflow(): void;
}

/**
 * Cuts a byte stream of server-sent events into blocks of whole events, whatever way the network cut it: line ends `\n`, `\r\n`
 * and `\r`, a byte order mark, split code points. A chunk that ends with an event, as nearly all do, is passed on uncopied.
 */
export class SseFramer {
  readonly #maxBytes: number;
  readonly #output: FramerOutput;
  /** Bytes behind the last whole event; grows by doubling, so that a dripping upstream costs linear time. */
  #pending = Buffer.alloc(0);
  #pendingLength = 0;
  /** Bytes of the mark seen so far; 3 = done with it. */
  #bomSeen = 0;
  #atStart = true;
  /** The last byte was a `\r` already passed on as `\n`: a following `\n` belongs to it. */
  #skipLineFeed = false;
  #ended = false;

  /** `maxBytes` bounds one event. */
  constructor(maxBytes: number, output: FramerOutput) {
    this.#maxBytes = maxBytes;
    this.#output = output;
  }

  /** The next bytes, cut anywhere. */
  push(chunk: Uint8Array): void {
    if (this.#ended || chunk.length === 0) return;
    let bytes = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    if (this.#atStart) bytes = this.#withoutBom(bytes);
    if (this.#skipLineFeed || bytes.indexOf(CR) >= 0) bytes = this.#withLineFeeds(bytes);
    if (bytes.length > 0) this.#frame(bytes);
  }

  /** What is left behind the last whole event; it is forgotten here. */
  takeRest(): Buffer {
    const rest = this.#pending.subarray(0, this.#pendingLength);
    this.#pending = Buffer.alloc(0);
    this.#pendingLength = 0;
    return rest;
  }

  #frame(bytes: Buffer): void {
    const end = this.#lastBoundary(bytes);
    if (end < 0) {
      this.#append(bytes);
      return;
    }
    if (this.#pendingLength === 0) {
      this.#output.block(end === bytes.length ? bytes : bytes.subarray(0, end));
    } else {
      const block = Buffer.allocUnsafe(this.#pendingLength + end);
      this.#pending.copy(block, 0, 0, this.#pendingLength);
      bytes.copy(block, this.#pendingLength, 0, end);
      this.#pendingLength = 0;
      if (this.#pending.length > 64 * PENDING_START_BYTES) this.#pending = Buffer.alloc(0);
      this.#output.block(block);
    }
    if (end < bytes.length) this.#append(bytes.subarray(end));
  }

  /** Offset behind the last empty line in `bytes` (what is pending before it included), or -1. */
  #lastBoundary(bytes: Buffer): number {
    const length = bytes.length;
    if (bytes[length - 1] === LF && length > 1 && bytes[length - 2] === LF) return length;
    const found = bytes.lastIndexOf("\n\n", undefined, "latin1");
    if (found >= 0) return found + 2;
    return bytes[0] === LF && this.#pendingLength > 0 && this.#pending[this.#pendingLength - 1] === LF ? 1 : -1;
  }

  #append(bytes: Buffer): void {
    const needed = this.#pendingLength + bytes.length;
    if (needed > this.#maxBytes) {
      this.#ended = true;
      this.#pending = Buffer.alloc(0);
      this.#pendingLength = 0;
      this.#output.overflow();
      return;
    }
    if (needed > this.#pending.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(PENDING_START_BYTES, needed, 2 * this.#pending.length));
      this.#pending.copy(grown, 0, 0, this.#pendingLength);
      this.#pending = grown;
    }
    bytes.copy(this.#pending, this.#pendingLength);
    this.#pendingLength = needed;
  }

  #withoutBom(bytes: Buffer): Buffer {
    let at = 0;
    while (at < bytes.length && this.#bomSeen < BOM.length && bytes[at] === BOM[this.#bomSeen]) {
      at++;
      this.#bomSeen++;
    }
    if (at === bytes.length && this.#bomSeen < BOM.length) return bytes.subarray(at);
    this.#atStart = false;
    if (this.#bomSeen === BOM.length || this.#bomSeen === 0) return bytes.subarray(at);
    return Buffer.concat([Buffer.from(BOM.slice(0, this.#bomSeen)), bytes.subarray(at)]);
  }

  #withLineFeeds(bytes: Buffer): Buffer {
    const out = Buffer.allocUnsafe(bytes.length);
    let to = 0;
    let skip = this.#skipLineFeed;
    for (const byte of bytes) {
      if (byte === LF && skip) {
        skip = false;
        continue;
      }
      skip = byte === CR;
      out[to++] = skip ? LF : byte;
    }
    this.#skipLineFeed = skip;
    return out.subarray(0, to);
  }
}
