/** Buckets: a factor of 1.25 each from 1 up covers 1 to about 160,000 (ms, or tokens) with an error of at most 12 %. */
const BUCKETS = 54;
const LOG_STEP = Math.log(1.25);

/** Weight beyond which everything is scaled down, far below where doubles lose small addends. */
const RESCALE_AT = 1e9;

/**
 * Histogram of positive numbers that forgets: an observation counts half after `halfLifeMs`. Quantiles are interpolated
 * geometrically inside a bucket and kept until the next observation.
 */
export class DecayingHistogram {
  readonly #halfLifeMs: number;
  readonly #weights = new Float64Array(BUCKETS);
  #total = 0;
  #originMs = 0;
  #p50 = 0;
  #p60 = 0;
  #p90 = 0;
  #p95 = 0;
  #stale = false;

  constructor(halfLifeMs: number) {
    this.#halfLifeMs = halfLifeMs;
  }

  /** Weight of everything in it, as of the latest observation; 0 = empty. */
  get total(): number {
    return this.#total;
  }

  /** Adds an observation. */
  add(value: number, nowMs: number): void {
    if (!(value >= 0)) return;
    if (this.#total === 0) this.#originMs = nowMs;
    const weight = 2 ** ((nowMs - this.#originMs) / this.#halfLifeMs);
    const index = value <= 1 ? 0 : Math.min(BUCKETS - 1, Math.floor(Math.log(value) / LOG_STEP));
    this.#weights[index]! += weight;
    this.#total = this.#total + weight;
    this.#stale = true;
    if (weight > RESCALE_AT) this.#rescale(weight, nowMs);
  }

  /** Observations, older ones counting less; what "how many samples are there" means. */
  effectiveCount(nowMs: number): number {
    return this.#total / 2 ** ((nowMs - this.#originMs) / this.#halfLifeMs);
  }

  get p50(): number {
    this.#refresh();
    return this.#p50;
  }

  get p60(): number {
    this.#refresh();
    return this.#p60;
  }

  get p90(): number {
    this.#refresh();
    return this.#p90;
  }

  get p95(): number {
    this.#refresh();
    return this.#p95;
  }

  #refresh(): void {
    if (!this.#stale) return;
    this.#stale = false;
    this.#p50 = this.quantile(0.5);
    this.#p60 = this.quantile(0.6);
    this.#p90 = this.quantile(0.9);
    this.#p95 = this.quantile(0.95);
  }

  /** The `q`-quantile, computed anew; 1 when empty. */
  quantile(q: number): number {
    if (this.#total === 0) return 1;
    let left = q * this.#total;
    for (let index = 0; index < BUCKETS; index++) {
      const weight = this.#weights[index]!;
      if (weight > 0 && left <= weight) return Math.exp((index + left / weight) * LOG_STEP);
      left -= weight;
    }
    return Math.exp(BUCKETS * LOG_STEP);
  }

  #rescale(by: number, nowMs: number): void {
    this.#total = 0;
    for (let index = 0; index < BUCKETS; index++) {
      this.#weights[index]! /= by;
      this.#total += this.#weights[index]!;
    }
    this.#originMs = nowMs;
  }
}
