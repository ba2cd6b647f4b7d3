import { type Clock, StallWatch, type Timer } from "#libs/clock/index.ts";
import { Slots } from "#libs/live/index.ts";

/** How often time-outs are looked at: their ceilings are seconds, and a sweep over 2,000 attempts costs some 20 us. */
export const SWEEP_PERIOD_MS = 50;

/** Something with time-outs. */
export interface Sweepable {
  /** Looks at the time (monotonic, ms); `lostMs` of it, since the last sweep, this process stood still. May add or remove sweepables. */
  sweep(nowMs: number, lostMs: number): void;
}

/**
 * One coarse timer for everything in flight, instead of a timer per chunk: who waits marks what it heard, and is asked every 50 ms.
 * The timer stands still while nothing is in flight.
 */
export class Sweeper {
  readonly #clock: Clock;
  readonly #waiting = new Slots<Sweepable>();
  #timer: Timer | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Returns the place that takes it out again. */
  add(sweepable: Sweepable): number {
    if (this.#timer === undefined) this.#start();
    return this.#waiting.add(sweepable);
  }

  remove(place: number): void {
    this.#waiting.remove(place);
  }

  /** Forgets everything. */
  stop(): void {
    this.#waiting.clear();
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #start(): void {
    const stalls = new StallWatch(SWEEP_PERIOD_MS, this.#clock.monotonicMs());
    this.#timer = this.#clock.every(SWEEP_PERIOD_MS, () => this.#sweep(stalls));
  }

  #sweep(stalls: StallWatch): void {
    if (this.#waiting.size === 0) {
      this.stop();
      return;
    }
    const nowMs = this.#clock.monotonicMs();
    const lostMs = stalls.lostMs(nowMs);
    for (const sweepable of this.#waiting) sweepable.sweep(nowMs, lostMs);
  }
}
