/** What the first failover to a different, closed, unsaturated backend costs, in tokens: it is nearly free by design. */
export const FIRST_FAILOVER_COST = 0.2;

/** What every other retry, and every hedge, costs, in tokens. */
export const RETRY_COST = 1;

/** Seconds a deposit counts for: long enough to ride out a burst, short enough to forget yesterday's traffic. */
const WINDOW_S = 10;

/** Least capacity, tokens: a quiet process must survive one backend's death with all its requests in flight. */
const MIN_CAPACITY = 100;

/** A budget's rates. */
export interface RetryBudgetOptions {
  /** Tokens earned by each first attempt (0.1 = one retry in ten requests). */
  readonly ratio: number;
  /** Tokens earned each second whatever the traffic. */
  readonly minPerS: number;
}

/**
 * Token bucket that keeps retries a bounded share of the traffic: one per process and model, starting full.
 * Its capacity is ten seconds of deposits, at least 100 tokens. All times are monotonic ms.
 */
export class RetryBudget {
  #options: RetryBudgetOptions;
  readonly #deposits = new Float64Array(WINDOW_S);
  #second: number;
  #recent = 0;
  #tokens: number;
  #refilledAtMs: number;

  constructor(options: RetryBudgetOptions, nowMs: number) {
    this.#options = options;
    this.#second = Math.floor(nowMs / 1000);
    this.#refilledAtMs = nowMs;
    this.#tokens = this.#capacity();
  }

  /** Follows a new configuration; what was earned stays. */
  configure(options: RetryBudgetOptions): void {
    this.#options = options;
  }

  /** Tokens there are now. */
  available(nowMs: number): number {
    this.#advance(nowMs);
    return this.#tokens;
  }

  /** A first attempt was made. */
  deposit(nowMs: number): void {
    this.#advance(nowMs);
    const slot = this.#second % WINDOW_S;
    this.#deposits[slot]! += this.#options.ratio;
    this.#recent += this.#options.ratio;
    this.#add(this.#options.ratio);
  }

  /** Takes `cost` tokens if they are there; a denied retry costs nothing. */
  withdraw(cost: number, nowMs: number): boolean {
    this.#advance(nowMs);
    if (this.#tokens < cost) return false;
    this.#tokens -= cost;
    return true;
  }

  /** Gives back what a retry that was never sent had taken. */
  refund(cost: number, nowMs: number): void {
    this.#advance(nowMs);
    this.#add(cost);
  }

  #capacity(): number {
    return Math.max(MIN_CAPACITY, this.#recent + this.#options.minPerS * WINDOW_S);
  }

  #add(tokens: number): void {
    this.#tokens = Math.min(this.#capacity(), this.#tokens + tokens);
  }

  #advance(nowMs: number): void {
    if (nowMs <= this.#refilledAtMs) return;
    const second = Math.floor(nowMs / 1000);
    const steps = Math.min(second - this.#second, WINDOW_S);
    for (let step = 1; step <= steps; step++) {
      const slot = (this.#second + step) % WINDOW_S;
      this.#recent -= this.#deposits[slot]!;
      this.#deposits[slot] = 0;
    }
    if (steps === WINDOW_S) {
      this.#deposits.fill(0);
      this.#recent = 0;
    }
    this.#second = second;
    const earned = ((nowMs - this.#refilledAtMs) / 1000) * this.#options.minPerS;
    this.#refilledAtMs = nowMs;
    this.#add(earned);
  }
}
