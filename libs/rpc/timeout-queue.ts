import type { Clock, Timer } from "#libs/clock/index.ts";

/** Something that may have to be ended when its time is up. */
export interface Expiring {
  /** Nothing is to be done any more. */
  settled: boolean;
}

/** Most time that blocked turns may add to an item, as a multiple of the time-out: an overloaded loop must not wait for ever. */
const EXTENSION_MAX = 4;

interface Item<T> {
  readonly item: T;
  dueMs: number;
  /** Extension so far, ms. */
  extendedMs: number;
}

/**
 * Time-outs that all have the same length: first in, first due, so one timer serves thousands. Only time in which this
 * process could have heard the answer counts: by as much as the timer fires late, the loop was blocked, and the items due
 * get that much longer; and what already waits in the sockets is heard first.
 */
export class TimeoutQueue<T extends Expiring> {
  readonly #clock: Clock;
  readonly #afterMs: number;
  readonly #onDue: (item: T) => void;
  #items: Item<T>[] = [];
  #head = 0;
  #timer: Timer | undefined;
  #armedForMs = 0;

  constructor(clock: Clock, afterMs: number, onDue: (item: T) => void) {
    this.#clock = clock;
    this.#afterMs = afterMs;
    this.#onDue = onDue;
  }

  push(item: T): void {
    this.#items.push({ item, dueMs: this.#clock.monotonicMs() + this.#afterMs, extendedMs: 0 });
    if (this.#timer === undefined) this.#arm();
  }

  close(): void {
    this.#timer?.cancel();
    this.#items = [];
    this.#head = 0;
  }

  #arm(): void {
    const next = this.#items[this.#head];
    if (!next) return;
    const nowMs = this.#clock.monotonicMs();
    this.#armedForMs = Math.max(next.dueMs, nowMs);
    this.#timer = this.#clock.after(this.#armedForMs - nowMs, this.#fire);
  }

  readonly #fire = (): void => {
    this.#timer = undefined;
    const nowMs = this.#clock.monotonicMs();
    // timers are exact to a millisecond or two
    const lateMs = Math.max(0, nowMs - this.#armedForMs - 2);
    const due: T[] = [];
    while (this.#head < this.#items.length) {
      const next = this.#items[this.#head]!;
      if (!next.item.settled) {
        const extraMs = next.dueMs > nowMs ? 0 : Math.min(lateMs, EXTENSION_MAX * this.#afterMs - next.extendedMs);
        next.dueMs += extraMs;
        next.extendedMs += extraMs;
        if (extraMs > 0 || next.dueMs > nowMs) break;
        due.push(next.item);
      }
      this.#head++;
    }
    if (this.#head > 1024 || this.#head === this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    this.#arm();
    if (due.length > 0) {
      setImmediate(() => {
        for (const item of due) if (!item.settled) this.#onDue(item);
      });
    }
  };
}
