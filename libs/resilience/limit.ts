/** Bounds and start of a limit. */
export interface ConcurrencyLimitOptions {
  readonly min: number;
  readonly max: number;
  /** Where it starts; clamped to [min, max]. */
  readonly initial: number;
}

/** Kept of the limit when the backend says it is too much (429, 503, time-out). */
const DROP_FACTOR = 0.7;

/** Kept of the limit when tokens come too slowly. */
const SLOW_FACTOR = 0.9;

/** The limit falls at most once in this long, ms: one burst of refusals is one piece of news. */
const FALL_INTERVAL_MS = 1_000;

/** Share of the limit that must have been in use before it may grow: an idle backend teaches nothing, and batch work alone uses no more. */
const GROW_UTILISATION = 0.5;

/** Weight of a new gap sample in the average. */
const GAP_WEIGHT = 0.2;

/**
 * Additive increase, multiplicative decrease of a backend's concurrency, on two signals: refusals (one step up per limit's worth
 * of successes, x0.7 on a refusal) and, where streams show it, the gap between tokens (once a second: x0.9 above the target,
 * +1 below it while in use). Never on end-to-end latency, which varies with the answer's length. Pure over (event, now).
 */
export class ConcurrencyLimit {
  readonly #options: ConcurrencyLimitOptions;
  #limit: number;
  #fellAtMs = Number.NEGATIVE_INFINITY;
  #refusedAtMs = Number.NEGATIVE_INFINITY;
  #gapMs = 0;
  #gapSamples = 0;
  #peak = 0;
  #steppedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: ConcurrencyLimitOptions) {
    this.#options = options;
    this.#limit = this.#clamp(options.initial);
  }

  /** The limit, a whole number within the bounds. */
  get value(): number {
    return Math.floor(this.#limit);
  }

  /** A success while `inFlight` (itself included) ran. Raises nothing within a second of a refusal. */
  onSuccess(inFlight: number, nowMs: number): void {
    if (inFlight > this.#peak) this.#peak = inFlight;
    if (nowMs - this.#refusedAtMs < FALL_INTERVAL_MS) return;
    if (inFlight >= GROW_UTILISATION * this.value) this.#limit = this.#clamp(this.#limit + 1 / this.#limit);
  }

  /** The backend refused or broke under load. */
  onDrop(nowMs: number): void {
    this.#refusedAtMs = nowMs;
    this.#fall(DROP_FACTOR, nowMs);
  }

  /** Requests wait inside the backend: it has more than it works on. */
  onQueue(nowMs: number): void {
    this.#fall(SLOW_FACTOR, nowMs);
  }

  /** A gap between tokens, ms. */
  onGap(gapMs: number): void {
    this.#gapMs = this.#gapSamples === 0 ? gapMs : this.#gapMs + GAP_WEIGHT * (gapMs - this.#gapMs);
    this.#gapSamples += 1;
  }

  /** Once a second or more often: compares the gaps since the last step with `targetGapMs`. */
  step(targetGapMs: number, inFlight: number, nowMs: number): void {
    if (inFlight > this.#peak) this.#peak = inFlight;
    if (nowMs - this.#steppedAtMs < FALL_INTERVAL_MS) return;
    this.#steppedAtMs = nowMs;
    const used = this.#peak;
    this.#peak = inFlight;
    if (this.#gapSamples === 0 || used < this.#limit / 2) return;
    this.#gapSamples = 0;
    if (this.#gapMs > targetGapMs) this.#fall(SLOW_FACTOR, nowMs);
    else if (used >= GROW_UTILISATION * this.value) this.#limit = this.#clamp(this.#limit + 1);
  }

  #fall(factor: number, nowMs: number): void {
    if (nowMs - this.#fellAtMs < FALL_INTERVAL_MS) return;
    this.#fellAtMs = nowMs;
    this.#limit = this.#clamp(this.#limit * factor);
  }

  #clamp(limit: number): number {
    return Math.min(this.#options.max, Math.max(this.#options.min, limit));
  }
}
