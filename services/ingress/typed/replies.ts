import type { SignalboxError } from "#libs/errors/index.ts";
import { RESPONSE_QUEUE_BYTES } from "../limits.ts";
import type { Reply, ReplyFacts } from "../reply.ts";

/** A whole answer for a caller in this process. */
export class WholeReply implements Reply {
  readonly answer: Promise<{ readonly bytes: Uint8Array; readonly facts: ReplyFacts }>;
  #resolve!: (answer: { readonly bytes: Uint8Array; readonly facts: ReplyFacts }) => void;
  #reject!: (error: SignalboxError) => void;

  constructor() {
    this.answer = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  open(): void {}

  write(): boolean {
    return true;
  }

  keepAlive(): void {}

  finish(): void {}

  whole(facts: ReplyFacts, pieces: readonly Uint8Array[]): void {
    this.#resolve({ bytes: Buffer.concat(pieces), facts });
  }

  fail(error: SignalboxError): void {
    this.#reject(error);
  }

  drop(): void {}

  pendingBytes(): number {
    return 0;
  }
}

/** How a typed stream ended. */
export type StreamEnd =
  | { readonly kind: "done"; readonly facts: ReplyFacts; readonly usageEvent: Uint8Array | undefined }
  | { readonly kind: "failed"; readonly error: SignalboxError };

/** A stream for a caller in this process, pulled piece by piece; the queue is bounded by holding dispatch back. */
export class PulledReply implements Reply {
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  #full = false;
  #end: StreamEnd | undefined;
  #wake: (() => void) | undefined;

  open(): void {}

  write(bytes: Uint8Array): boolean {
    this.#pieces.push(bytes);
    this.#bytes += bytes.length;
    this.#full = this.#bytes >= RESPONSE_QUEUE_BYTES;
    this.#wake?.();
    return !this.#full;
  }

  keepAlive(): void {}

  finish(facts: ReplyFacts, usageEvent: Uint8Array | undefined): void {
    this.#settle({ kind: "done", facts, usageEvent });
  }

  whole(): void {}

  fail(error: SignalboxError): void {
    this.#settle({ kind: "failed", error });
  }

  drop(): void {}

  pendingBytes(): number {
    return this.#bytes;
  }

  /** Resolves when there are pieces or the end. */
  ready(): Promise<void> {
    if (this.#pieces.length > 0 || this.#end !== undefined) return Promise.resolve();
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined;
        resolve();
      };
    });
  }

  /** Takes everything queued; `resumed` = dispatch was held back and may go on. */
  take(): { readonly pieces: readonly Uint8Array[]; readonly resumed: boolean; readonly end: StreamEnd | undefined } {
    const pieces = this.#pieces;
    const resumed = this.#full;
    this.#pieces = [];
    this.#bytes = 0;
    this.#full = false;
    return { pieces, resumed, end: this.#end };
  }

  #settle(end: StreamEnd): void {
    this.#end ??= end;
    this.#wake?.();
  }
}
