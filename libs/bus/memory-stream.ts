import type { Clock, Timer } from "#libs/clock/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import type { BusMessage, Subscription } from "./bus.ts";
import { subjectMatches } from "./subject-match.ts";
import { BATCH_MAX, DEDUPE_WINDOW_MS, redeliveryDelayMs, MEMORY_STREAM_MAX_BYTES, MEMORY_STREAM_MAX_MESSAGES } from "./limits.ts";

interface Stored {
  readonly sequence: number;
  readonly subject: string;
  readonly payload: Uint8Array;
}

type Handler = (batch: readonly BusMessage[]) => Promise<void>;

interface Durable {
  readonly subject: string;
  readonly handlers: Handler[];
  /** Sequence of the last message handled. */
  acknowledged: number;
  /** Whose turn it is, so that replicas share the work. */
  turn: number;
  busy: boolean;
  deliveries: number;
  retry: Timer | undefined;
}

/**
 * The durable side of the in-memory bus: a bounded log and named consumers with a position each. A batch whose handler
 * rejects is delivered again, whole and before anything later, so that order holds even over failures.
 */
export class MemoryStream {
  #log: Stored[] = [];
  #bytes = 0;
  #sequence = 0;
  readonly #durables = new Map<string, Durable>();
  /** Message ids in two generations, so that forgetting the oldest is free. */
  #seen = new Set<string>();
  #seenBefore = new Set<string>();
  #turnedAtMs = 0;
  readonly #clock: Clock;
  readonly #logger: Logger;
  #closed = false;

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock;
    this.#logger = logger;
  }

  append(subject: string, payload: Uint8Array, messageId: string): void {
    this.#forgetIds(this.#clock.monotonicMs());
    if (this.#seen.has(messageId) || this.#seenBefore.has(messageId)) return;
    this.#seen.add(messageId);
    this.#log.push({ sequence: ++this.#sequence, subject, payload });
    this.#bytes += payload.length;
    if (this.#log.length > MEMORY_STREAM_MAX_MESSAGES || this.#bytes > MEMORY_STREAM_MAX_BYTES) this.#dropOldest();
    for (const durable of this.#durables.values()) this.#wake(durable);
  }

  consume(subject: string, name: string, handler: Handler): Subscription {
    let durable = this.#durables.get(name);
    if (!durable) {
      durable = { subject, handlers: [], acknowledged: 0, turn: 0, busy: false, deliveries: 0, retry: undefined };
      this.#durables.set(name, durable);
    }
    const joined = durable;
    joined.handlers.push(handler);
    this.#wake(joined);
    return {
      close: () => {
        const at = joined.handlers.indexOf(handler);
        if (at >= 0) joined.handlers.splice(at, 1);
      },
    };
  }

  close(): void {
    this.#closed = true;
    for (const durable of this.#durables.values()) durable.retry?.cancel();
  }

  #forgetIds(nowMs: number): void {
    const agedMs = nowMs - this.#turnedAtMs;
    if (agedMs < DEDUPE_WINDOW_MS && this.#seen.size < MEMORY_STREAM_MAX_MESSAGES) return;
    this.#seenBefore = agedMs < 2 * DEDUPE_WINDOW_MS ? this.#seen : new Set();
    this.#seen = new Set();
    this.#turnedAtMs = nowMs;
  }

  /** Makes room by a tenth at once, so that a full log does not move with every message. */
  #dropOldest(): void {
    const dropped = Math.max(1, Math.floor(this.#log.length / 10));
    for (let index = 0; index < dropped; index++) this.#bytes -= this.#log[index]!.payload.length;
    this.#log = this.#log.slice(dropped);
    this.#logger.warn({ dropped }, "bus stream is full; its oldest messages are dropped");
  }

  #wake(durable: Durable): void {
    if (durable.busy || durable.retry || durable.handlers.length === 0 || this.#closed) return;
    durable.busy = true;
    queueMicrotask(() => this.#deliver(durable));
  }

  #deliver(durable: Durable): void {
    const handler = durable.handlers[durable.turn++ % Math.max(1, durable.handlers.length)];
    const batch = handler ? this.#pending(durable) : [];
    if (!handler || batch.length === 0 || this.#closed) {
      durable.busy = false;
      return;
    }
    durable.deliveries++;
    const messages = batch.map((stored) => ({ subject: stored.subject, payload: stored.payload, deliveries: durable.deliveries }));
    this.#run(handler, messages).then(
      () => {
        durable.acknowledged = batch.at(-1)!.sequence;
        durable.deliveries = 0;
        durable.busy = false;
        this.#trim();
        this.#wake(durable);
      },
      (cause: unknown) => {
        this.#logger.warn({ err: cause, deliveries: durable.deliveries }, "bus consumer failed; its batch will be delivered again");
        durable.busy = false;
        durable.retry = this.#clock.after(redeliveryDelayMs(durable.deliveries), () => {
          durable.retry = undefined;
          this.#wake(durable);
        });
      },
    );
  }

  async #run(handler: Handler, messages: readonly BusMessage[]): Promise<void> {
    await handler(messages);
  }

  #pending(durable: Durable): Stored[] {
    const batch: Stored[] = [];
    // sequences are consecutive, so the position in the log follows from the sequence
    const first = this.#log[0]?.sequence ?? 0;
    for (let index = Math.max(0, durable.acknowledged + 1 - first); index < this.#log.length && batch.length < BATCH_MAX; index++) {
      const stored = this.#log[index]!;
      if (subjectMatches(durable.subject, stored.subject)) batch.push(stored);
    }
    return batch;
  }

  /** Drops what every consumer has handled or does not want. */
  #trim(): void {
    const durables = [...this.#durables.values()];
    let dropped = 0;
    for (const stored of this.#log) {
      if (durables.some((durable) => stored.sequence > durable.acknowledged && subjectMatches(durable.subject, stored.subject))) break;
      this.#bytes -= stored.payload.length;
      dropped++;
    }
    if (dropped > 0) this.#log = this.#log.slice(dropped);
  }
}
