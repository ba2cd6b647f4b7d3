import type { Clock, Timer } from "#libs/clock/index.ts";

/** How often time-outs are looked at: their ceilings are seconds, and a sweep over 2,000 attempts costs some 20 us. */
export const SWEEP_PERIOD_MS = 50;

/** Something with time-outs. */
export interface Sweepable {
  /** Looks at the time (monotonic, ms). May add or remove sweepables. */
  sweep(nowMs: number): void;
}

/**
 * One coarse timer for everything in flight, instead of a timer per chunk: who waits marks what it heard, and is asked every 50 ms.
 * The timer stands still while nothing is in flight.
 */
export class Sweeper {
  readonly #clock: Clock;
  readonly #waiting = new Set<Sweepable>();
  #timer: Timer | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(sweepable: Sweepable): void {
    this.#waiting.add(sweepable);
    this.#timer ??= this.#clock.every(SWEEP_PERIOD_MS, () => this.#sweep());
  }

  remove(sweepable: Sweepable): void {
    this.#waiting.delete(sweepable);
  }

  /** Forgets everything. */
  stop(): void {
    this.#waiting.clear();
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #sweep(): void {
    if (this.#waiting.size === 0) {
      this.stop();
      return;
    }
    const nowMs = this.#clock.monotonicMs();
    for (const sweepable of this.#waiting) sweepable.sweep(nowMs);
  }
}
