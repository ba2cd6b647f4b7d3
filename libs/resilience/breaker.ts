import type { Random } from "#libs/clock/index.ts";

/** When a breaker opens and for how long. */
export interface BreakerOptions {
  /** Hard failures in a row that open it. */
  readonly consecutive: number;
  /** Success rate over the window below which it opens, 0..1. */
  readonly successRate: number;
  /** The window, ms. */
  readonly windowMs: number;
  /** Attempts the window must hold before its rate means anything. */
  readonly minRequests: number;
  /** First open time, ms; doubles with each opening, within a quarter of the outage so far (at least 15 s). */
  readonly openMs: number;
  /** Longest open time, ms. */
  readonly maxOpenMs: number;
}

/**
 * The state of a breaker, monotonic ms.
 * - closed: everything goes through.
 * - open: nothing goes through until `untilMs`.
 * - half_open: one trial at a time; two successes in a row close it.
 */
export type BreakerState =
  | { readonly kind: "closed"; readonly sinceMs: number }
  | { readonly kind: "open"; readonly sinceMs: number; readonly untilMs: number; readonly cause: "consecutive" | "success_rate" | "trial" }
  | { readonly kind: "half_open"; readonly sinceMs: number; readonly trialSinceMs: number | undefined; readonly successes: number };

/**
 * What a breaker hears of.
 * - success: a complete answer.
 * - failure: a hard one: transport, 5xx, time-out, protocol.
 * - limited: 429; it never counts as a hard failure, only against the success rate.
 * - neutral: an end that says nothing (cancelled, caller's mistake); it only gives a trial back.
 * - live: the free liveness call went from failing to working.
 */
export type BreakerEvent =
  | { readonly kind: "success" }
  | { readonly kind: "failure" }
  | { readonly kind: "limited"; readonly retryAfterMs: number }
  | { readonly kind: "neutral" }
  | { readonly kind: "live" };

/** A change of state. */
export interface BreakerTransition {
  readonly from: BreakerState["kind"];
  readonly to: BreakerState["kind"];
}

/** Buckets of the window's ring. */
const BUCKETS = 10;

/** Successes in a row that close a half-open breaker: one may be luck. */
const CLOSING_SUCCESSES = 2;

/** A trial that has not ended after this long is given up, ms: a lost report must not hold the only trial for ever. */
const TRIAL_LOST_MS = 60_000;

/** Closed time that takes one doubling back, ms: a flapping backend keeps its long open times while it flaps. */
const FORGIVE_MS = 60_000;

/** Share of the open time that chance may take off. Downwards only, so that recovery is never later than the plan says. */
const JITTER = 0.1;

/**
 * An open time is never longer than this share of the outage so far, or this, ms: a minute's outage must not cost another
 * minute, while a backend that is gone for an hour is asked every few minutes. The floor doubles each time it closed in vain:
 * a flapping backend is not to change its state several times a minute.
 */
const OUTAGE_SHARE = 0.25;
const OUTAGE_FLOOR_MS = 15_000;

/** Largest exponent of the open time: beyond it any sensible cap holds anyway. */
const MAX_DOUBLINGS = 16;

/**
 * A circuit breaker: hard failures in a row, or a success rate below a threshold, open it for a time that grows.
 * It changes only in `on` and `admit`, as a function of (event, now, chance); it reads no clock and sets no timer.
 */
export class CircuitBreaker {
  #options: BreakerOptions;
  readonly #good = new Float64Array(BUCKETS);
  readonly #bad = new Float64Array(BUCKETS);
  #bucket: number;
  #failuresInARow = 0;
  #openings = 0;
  #forgivenAtMs: number;
  #outageSinceMs = 0;
  #flaps = 0;
  #state: BreakerState;

  constructor(options: BreakerOptions, nowMs: number) {
    this.#options = options;
    this.#bucket = this.#bucketAt(nowMs);
    this.#forgivenAtMs = nowMs;
    this.#state = { kind: "closed", sinceMs: nowMs };
  }

  /** Follows a new configuration; state and openings stay, the window begins anew where its length changed. */
  configure(options: BreakerOptions, nowMs: number): void {
    const isLongAsBefore = options.windowMs === this.#options.windowMs;
    this.#options = options;
    if (isLongAsBefore) return;
    this.#good.fill(0);
    this.#bad.fill(0);
    this.#bucket = this.#bucketAt(nowMs);
  }

  /** The state now; an open time that has run out reads as half_open. */
  state(nowMs: number): BreakerState {
    const state = this.#state;
    if (state.kind === "open" && nowMs >= state.untilMs) {
      this.#state = { kind: "half_open", sinceMs: state.untilMs, trialSinceMs: undefined, successes: 0 };
    } else if (state.kind === "half_open" && state.trialSinceMs !== undefined && nowMs - state.trialSinceMs >= TRIAL_LOST_MS) {
      this.#state = { ...state, trialSinceMs: undefined };
    }
    return this.#state;
  }

  /** Whether an attempt may go now: always when closed, one at a time when half open. */
  canAdmit(nowMs: number): boolean {
    const state = this.state(nowMs);
    return state.kind === "closed" || (state.kind === "half_open" && state.trialSinceMs === undefined);
  }

  /** Lets an attempt through, and takes the trial when half open. Undefined when it may not go. */
  admit(nowMs: number): "normal" | "trial" | undefined {
    const state = this.state(nowMs);
    if (state.kind === "closed") return "normal";
    if (state.kind === "open" || state.trialSinceMs !== undefined) return undefined;
    this.#state = { ...state, trialSinceMs: nowMs };
    return "trial";
  }

  /**
   * Takes in an event. `trial` says whether it is the end of the attempt that `admit` let through as the trial: half open, only
   * that one counts. `statistical` says whether the success rate may open it now: the caller forbids it while too much of the
   * pool is ejected already; failures in a row always may.
   */
  on(event: BreakerEvent, nowMs: number, random: Random, trial = false, statistical = true): BreakerTransition | undefined {
    const before = this.#state.kind;
    const state = this.state(nowMs);
    switch (state.kind) {
      case "closed":
        this.#onClosed(event, nowMs, random, statistical);
        break;
      case "open":
        if (event.kind === "live") this.#state = { kind: "half_open", sinceMs: nowMs, trialSinceMs: undefined, successes: 0 };
        break;
      case "half_open":
        if (trial) this.#onHalfOpen(state, event, nowMs, random);
        break;
    }
    return before === this.#state.kind ? undefined : { from: before, to: this.#state.kind };
  }

  /** Success rate over the window, or undefined without an attempt in it. */
  successRate(nowMs: number): number | undefined {
    this.#turn(nowMs);
    const good = sum(this.#good);
    const all = good + sum(this.#bad);
    return all === 0 ? undefined : good / all;
  }

  #onClosed(event: BreakerEvent, nowMs: number, random: Random, statistical: boolean): void {
    this.#turn(nowMs);
    this.#forgive(nowMs);
    const bucket = this.#bucket % BUCKETS;
    if (event.kind === "success") {
      this.#failuresInARow = 0;
      this.#good[bucket]! += 1;
      return;
    }
    if (event.kind !== "failure" && event.kind !== "limited") return;
    this.#bad[bucket]! += 1;
    if (event.kind === "failure" && ++this.#failuresInARow >= this.#options.consecutive) {
      return this.#open("consecutive", nowMs, random, 0);
    }
    if (!statistical) return;
    const good = sum(this.#good);
    const all = good + sum(this.#bad);
    if (all >= this.#options.minRequests && good / all < this.#options.successRate) {
      this.#open("success_rate", nowMs, random, event.kind === "limited" ? event.retryAfterMs : 0);
    }
  }

  #onHalfOpen(state: BreakerState & { readonly kind: "half_open" }, event: BreakerEvent, nowMs: number, random: Random): void {
    switch (event.kind) {
      case "success":
        if (state.successes + 1 >= CLOSING_SUCCESSES) this.#close(nowMs);
        else this.#state = { ...state, trialSinceMs: undefined, successes: state.successes + 1 };
        break;
      case "failure":
        this.#open("trial", nowMs, random, 0);
        break;
      case "limited":
        this.#open("trial", nowMs, random, event.retryAfterMs);
        break;
      case "neutral":
        this.#state = { ...state, trialSinceMs: undefined };
        break;
      case "live":
        break;
    }
  }

  #open(cause: "consecutive" | "success_rate" | "trial", nowMs: number, random: Random, retryAfterMs: number): void {
    const { openMs, maxOpenMs } = this.#options;
    if (this.#openings === 0) {
      this.#outageSinceMs = nowMs;
      this.#flaps = 0;
    }
    const floorMs = OUTAGE_FLOOR_MS * 2 ** Math.min(this.#flaps, MAX_DOUBLINGS);
    const capMs = Math.min(maxOpenMs, Math.max(floorMs, OUTAGE_SHARE * (nowMs - this.#outageSinceMs)));
    const plannedMs = Math.min(capMs, openMs * 2 ** Math.min(this.#openings, MAX_DOUBLINGS));
    const waitMs = Math.max(plannedMs * (1 - JITTER * random.next()), Math.min(retryAfterMs, maxOpenMs));
    this.#openings += 1;
    this.#state = { kind: "open", sinceMs: nowMs, untilMs: nowMs + waitMs, cause };
  }

  #close(nowMs: number): void {
    this.#good.fill(0);
    this.#bad.fill(0);
    this.#failuresInARow = 0;
    this.#flaps += 1;
    this.#forgivenAtMs = nowMs;
    this.#state = { kind: "closed", sinceMs: nowMs };
  }

  #forgive(nowMs: number): void {
    const steps = Math.floor((nowMs - this.#forgivenAtMs) / FORGIVE_MS);
    if (steps <= 0) return;
    this.#openings = Math.max(0, this.#openings - steps);
    this.#forgivenAtMs += steps * FORGIVE_MS;
  }

  #bucketAt(nowMs: number): number {
    return Math.floor((nowMs * BUCKETS) / this.#options.windowMs);
  }

  #turn(nowMs: number): void {
    const target = this.#bucketAt(nowMs);
    const steps = Math.min(target - this.#bucket, BUCKETS);
    for (let step = 1; step <= steps; step++) {
      const bucket = (this.#bucket + step) % BUCKETS;
      this.#good[bucket] = 0;
      this.#bad[bucket] = 0;
    }
    if (steps === BUCKETS) {
      this.#good.fill(0);
      this.#bad.fill(0);
    }
    if (target > this.#bucket) this.#bucket = target;
  }
}

function sum(values: Float64Array): number {
  let total = 0;
  for (let index = 0; index < values.length; index++) total += values[index]!;
  return total;
}
