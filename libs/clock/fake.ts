import type { Clock, Random, Timer } from "./clock.ts";

interface Pending {
  readonly atMs: number;
  readonly order: number;
  readonly callback: () => void;
  cancelled: boolean;
}

/** Virtual time: stands still until advanced, then fires timers in order of time and registration. */
export class FakeClock implements Clock {
  #nowMs = 0;
  #order = 0;
  readonly #heap: Pending[] = [];
  readonly #epochMs: number;

  /** `epochMs` is the wall-clock time at virtual time 0. */
  constructor(epochMs = 1_790_000_000_000) {
    this.#epochMs = epochMs;
  }

  now(): number {
    return this.#epochMs + this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, callback: () => void): Timer {
    const pending: Pending = { atMs: this.#nowMs + Math.max(0, delayMs), order: this.#order++, callback, cancelled: false };
    this.#push(pending);
    return { cancel: () => void (pending.cancelled = true) };
  }

  every(periodMs: number, callback: () => void): Timer {
    let current: Timer;
    const tick = (): void => {
      current = this.after(periodMs, tick);
      callback();
    };
    current = this.after(periodMs, tick);
    return { cancel: () => current.cancel() };
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error);
      const timer = this.after(delayMs, resolve);
      signal?.addEventListener("abort", () => {
        timer.cancel();
        reject(signal.reason as Error);
      });
    });
  }

  /** Virtual time of the next timer, or undefined when none is pending. */
  nextAtMs(): number | undefined {
    while (this.#heap[0]?.cancelled) this.#pop();
    return this.#heap[0]?.atMs;
  }

  /** Moves time by `ms`, firing every timer due on the way, synchronously and in order. */
  advance(ms: number): void {
    this.runUntil(this.#nowMs + ms);
  }

  /** Moves time to `atMs`, firing every timer due on the way, synchronously and in order. */
  runUntil(atMs: number): void {
    for (let next = this.nextAtMs(); next !== undefined && next <= atMs; next = this.nextAtMs()) {
      const pending = this.#pop();
      this.#nowMs = Math.max(this.#nowMs, pending.atMs);
      pending.callback();
    }
    this.#nowMs = Math.max(this.#nowMs, atMs);
  }

  /** Lets `ms` pass without firing a timer, as when the process stands still; those due fire, late, at the next advance. */
  stall(ms: number): void {
    this.#nowMs += ms;
  }

  /** Like {@link advance}, but lets promises settle between timers. */
  async advanceAsync(ms: number): Promise<void> {
    const target = this.#nowMs + ms;
    await settle();
    for (let next = this.nextAtMs(); next !== undefined && next <= target; next = this.nextAtMs()) {
      this.runUntil(next);
      await settle();
    }
    this.#nowMs = Math.max(this.#nowMs, target);
    await settle();
  }

  #push(pending: Pending): void {
    const heap = this.#heap;
    let index = heap.push(pending) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!before(pending, heap[parent]!)) break;
      heap[index] = heap[parent]!;
      index = parent;
    }
    heap[index] = pending;
  }

  #pop(): Pending {
    const heap = this.#heap;
    const top = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return top;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[index] = heap[child]!;
      index = child;
    }
    heap[index] = last;
    return top;
  }
}

function before(a: Pending, b: Pending): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

/** Lets already resolved promises run, without a timer. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 8; turn++) await Promise.resolve();
}

/** Seeded chance (sfc32): the same seed gives the same numbers everywhere. */
export class SeededRandom implements Random {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number) {
    this.#a = seed | 0;
    this.#b = (seed / 4294967296) | 0;
    this.#c = 0x9e3779b9 | 0;
    for (let round = 0; round < 15; round++) this.#uint32();
  }

  next(): number {
    return this.#uint32() / 4294967296;
  }

  int(bound: number): number {
    return Math.floor(this.next() * bound);
  }

  bytes<T extends Uint8Array>(target: T): T {
    for (let index = 0; index < target.length; index++) target[index] = this.#uint32() & 0xff;
    return target;
  }

  #uint32(): number {
    const t = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (this.#c << 21) | (this.#c >>> 11);
    this.#c = (this.#c + t) | 0;
    return t >>> 0;
  }
}
