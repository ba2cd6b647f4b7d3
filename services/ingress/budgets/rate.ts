/** Rates are given per minute. */
const MINUTE_MS = 60_000;

/** A token bucket that holds one minute's worth and refills evenly. Monotonic ms; no clock of its own. */
export class Rate {
  #level: number;
  #perMinute: number;
  #atMs: number;

  constructor(perMinute: number, nowMs: number) {
    this.#perMinute = perMinute;
    this.#level = perMinute;
    this.#atMs = nowMs;
  }

  /** Changes the rate; what is in the bucket keeps its share of it. */
  set(perMinute: number, nowMs: number): void {
    if (perMinute === this.#perMinute) return;
    this.#refill(nowMs);
    this.#level *= perMinute / this.#perMinute;
    this.#perMinute = perMinute;
  }

  /** Takes `amount`; returns 0, or how long to wait for it, ms. What is larger than the bucket passes when it is full. */
  take(amount: number, nowMs: number): number {
    this.#refill(nowMs);
    const needed = Math.min(amount, this.#perMinute);
    if (this.#level >= needed) {
      this.#level -= amount;
      return 0;
    }
    return Math.max(1, Math.ceil(((needed - this.#level) / this.#perMinute) * MINUTE_MS));
  }

  /** Gives back what was taken and not used, or takes what was used on top. */
  correct(amount: number): void {
    this.#level = Math.min(this.#perMinute, this.#level + amount);
  }

  /** Whole units that can be taken now. */
  remaining(nowMs: number): number {
    this.#refill(nowMs);
    return Math.max(0, Math.floor(this.#level));
  }

  /** Until the bucket is full again, ms. */
  resetMs(nowMs: number): number {
    this.#refill(nowMs);
    return Math.ceil(((this.#perMinute - this.#level) / this.#perMinute) * MINUTE_MS);
  }

  #refill(nowMs: number): void {
    this.#level = Math.min(this.#perMinute, this.#level + ((nowMs - this.#atMs) / MINUTE_MS) * this.#perMinute);
    this.#atMs = nowMs;
  }
}
