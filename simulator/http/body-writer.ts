import type { ServerResponse } from "node:http";
import { constants, createGzip, type Gzip } from "node:zlib";
import type { Clock } from "#libs/clock/index.ts";
import type { FaultPlan } from "../faults/plan.ts";

/** Pending bytes at which a dripping or splitting writer asks for a pause. */
const PENDING_MAX = 256 * 1024;

/**
 * Writes an answer's bytes as a fault plan wants them: plainly, byte by byte, dripping, with CRLF, comments, a BOM, or gzipped.
 * Tokens count as written when their last byte is handed to the socket.
 */
export class BodyWriter {
  readonly #response: ServerResponse;
  readonly #clock: Clock;
  readonly #plan: FaultPlan;
  readonly #plain: boolean;
  #gzip: Gzip | undefined;
  #first = true;
  #pendingBytes = 0;
  #dripping = false;
  #closing: (() => void) | undefined;
  readonly #queue: { readonly bytes: Buffer; readonly tokens: number }[] = [];
  /** Tokens whose bytes are out. */
  tokens = 0;

  constructor(response: ServerResponse, clock: Clock, plan: FaultPlan) {
    this.#response = response;
    this.#clock = clock;
    this.#plan = plan;
    this.#plain = plan.names === "";
  }

  /** Writes whole events that carry `tokens` tokens. False: pause until `drain`. */
  write(text: string, tokens: number): boolean {
    if (this.#plain) {
      this.tokens += tokens;
      return this.#response.write(text);
    }
    const shaped = this.#shape(text);
    if (this.#plan.dripMs > 0) return this.#drip(Buffer.from(shaped), tokens);
    this.tokens += tokens;
    if (this.#plan.has("gzip")) return this.#gzipped(shaped);
    if (!this.#plan.has("split")) return this.#response.write(shaped);
    const bytes = Buffer.from(shaped);
    let open = true;
    for (let at = 0; at < bytes.length; at++) open = this.#response.write(bytes.subarray(at, at + 1));
    return open;
  }

  /** Ends the answer in good order once everything is out. */
  end(): void {
    if (this.#queue.length > 0) this.#closing = () => this.#response.end();
    else if (this.#gzip) this.#gzip.end();
    else this.#response.end();
  }

  /** Calls `act` once everything written so far is out: for faults that end the connection. */
  afterFlush(act: () => void): void {
    if (this.#queue.length > 0) this.#closing = act;
    else if (this.#gzip) this.#gzip.flush(() => setImmediate(act));
    else this.#response.write("", () => act());
  }

  #shape(text: string): string {
    let shaped = text;
    if (this.#plan.has("comments")) shaped = `: SIMULATED PROCESSING\n\n${shaped}`;
    if (this.#plan.has("crlf")) shaped = shaped.replaceAll("\n", "\r\n");
    if (this.#first && this.#plan.has("bom")) shaped = `\ufeff${shaped}`;
    this.#first = false;
    return shaped;
  }

  #gzipped(text: string): boolean {
    if (!this.#gzip) {
      this.#gzip = createGzip({ flush: constants.Z_SYNC_FLUSH });
      this.#gzip.pipe(this.#response);
    }
    return this.#gzip.write(text);
  }

  #drip(bytes: Buffer, tokens: number): boolean {
    this.#queue.push({ bytes, tokens });
    this.#pendingBytes += bytes.length;
    if (!this.#dripping) {
      this.#dripping = true;
      this.#nextDrop(0);
    }
    return this.#pendingBytes < PENDING_MAX;
  }

  #nextDrop(at: number): void {
    const head = this.#queue[0];
    if (!head || this.#response.destroyed) {
      this.#dripping = false;
      const closing = this.#closing;
      this.#closing = undefined;
      if (!this.#response.destroyed) closing?.();
      return;
    }
    this.#response.write(head.bytes.subarray(at, at + 1));
    this.#pendingBytes--;
    if (at + 1 >= head.bytes.length) {
      this.#queue.shift();
      this.tokens += head.tokens;
      if (this.#pendingBytes < PENDING_MAX / 2) this.#response.emit("drain");
    }
    const next = at + 1 >= head.bytes.length ? 0 : at + 1;
    this.#clock.after(this.#plan.dripMs, () => this.#nextDrop(next));
  }
}
