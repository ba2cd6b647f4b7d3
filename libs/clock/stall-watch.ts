/** A timer this late, ms, came late because its process stood still (starved, paused, busy); less is the ordinary grain of timers. */
const STALL_MIN_MS = 100;

/**
 * Tells how long this process stood still, seen from a periodic timer of its own. What happened outside meanwhile arrives only after
 * the timer, so a time-out judged by it would blame others for what has been here all along.
 */
export class StallWatch {
  readonly #periodMs: number;
  #lastMs: number;

  /** `nowMs` is monotonic: when the timer was started. */
  constructor(periodMs: number, nowMs: number) {
    this.#periodMs = periodMs;
    this.#lastMs = nowMs;
  }

  /** To be called each time the timer fires: ms lost since the last time; 0 when it came in time. */
  lostMs(nowMs: number): number {
    const lateMs = nowMs - this.#lastMs - this.#periodMs;
    this.#lastMs = nowMs;
    return lateMs >= STALL_MIN_MS ? lateMs : 0;
  }
}
