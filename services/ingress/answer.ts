import type { SignalboxError } from "#libs/errors/index.ts";
import type { Attempt } from "./attempt.ts";
import { KEEP_ALIVE_MS } from "./limits.ts";
import type { Reply, ReplyFacts } from "./reply.ts";

/** What pieces go through on their way to the client. */
export interface Passage {
  pass(piece: Uint8Array): Uint8Array;
}

/**
 * The client's side of an exchange: whether its stream is open, how full its reader is, and when it last heard of us.
 * Decides nothing about backends. Times are monotonic ms.
 */
export class Answer {
  readonly #reply: Reply;
  #open = false;
  #blocked = false;
  #owedBytes = 0;
  #writtenMs: number;
  #stallBytes = 0;
  #stallMs = 0;

  constructor(reply: Reply, nowMs: number) {
    this.#reply = reply;
    this.#writtenMs = nowMs;
  }

  /** Whether the reader must drain before more is written. */
  get blocked(): boolean {
    return this.#blocked;
  }

  /** Sends the stream's head, once. */
  open(facts: ReplyFacts): void {
    if (this.#open) return;
    this.#open = true;
    this.#reply.open(facts);
  }

  /** Writes what an attempt holds until the reader is full. */
  pump(attempt: Attempt, nowMs: number, passage: Passage | undefined): void {
    while (!this.#blocked) {
      const piece = attempt.take();
      if (piece === undefined) return;
      const bytes = passage === undefined ? piece : passage.pass(piece);
      if (bytes.length > 0) this.#writtenMs = nowMs;
      if (bytes.length === 0 || this.#reply.write(bytes)) attempt.consumed(piece.length);
      else this.#block(piece.length, nowMs);
    }
  }

  /** Writes a comment; it is too small to hold anything back for. */
  note(comment: Uint8Array): void {
    this.#reply.write(comment);
  }

  /** The reader drained: bytes that now count as consumed. */
  drained(): number {
    this.#blocked = false;
    const bytes = this.#owedBytes;
    this.#owedBytes = 0;
    return bytes;
  }

  /** Whether a silent stream is due a comment. */
  isQuiet(nowMs: number): boolean {
    return !this.#blocked && nowMs - this.#writtenMs >= KEEP_ALIVE_MS;
  }

  /** Says: still here. Opens the stream when it was not. */
  keepAlive(facts: ReplyFacts, nowMs: number): void {
    this.#writtenMs = nowMs;
    this.open(facts);
    this.#reply.keepAlive();
  }

  /** Whether a full reader has taken nothing for `limitMs`. */
  isStalled(nowMs: number, limitMs: number): boolean {
    if (!this.#blocked) return false;
    const pending = this.#reply.pendingBytes();
    if (pending === this.#stallBytes) return nowMs - this.#stallMs >= limitMs;
    this.#stallBytes = pending;
    this.#stallMs = nowMs;
    return false;
  }

  finish(facts: ReplyFacts, usageEvent: Uint8Array | undefined): void {
    this.#reply.finish(facts, usageEvent);
  }

  whole(facts: ReplyFacts, pieces: readonly Uint8Array[]): void {
    this.#reply.whole(facts, pieces);
  }

  fail(error: SignalboxError, facts: ReplyFacts): void {
    this.#reply.fail(error, facts);
  }

  drop(): void {
    this.#reply.drop();
  }

  #block(bytes: number, nowMs: number): void {
    this.#blocked = true;
    this.#owedBytes = bytes;
    this.#stallBytes = this.#reply.pendingBytes();
    this.#stallMs = nowMs;
  }
}
