import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Ended } from "./ended.ts";

/** Buckets of the success-rate window. */
const BUCKETS = 10;
/** Latest samples kept of each latency. */
const SAMPLES_MAX = 256;
/** Samples that make a median worth comparing: with fewer, a run of long prompts on one backend looks like a slow one. */
export const SAMPLES_LEAST = 20;
/** Output tokens that make an answer's mean pace the backend's: in fewer, the prefill of one neighbour is most of it. */
const PACE_TOKENS_LEAST = 32;
/** Age of samples that say how fast a backend is now, ms. */
const RECENT_MS = 10_000;
/** Age of samples for the published quantiles, ms. */
const QUANTILES_MS = 60_000;
/** Window of the stall detector, ms, and stalls kept. */
const STALL_WINDOW_MS = 60_000;
const STALLS_MAX = 64;
/** Answers the garbage detector looks at. */
const GARBAGE_LAST = 30;
/** Samples the first baseline is the mean of. */
const BASELINE_FIRST = 20;
/** Time in which the baseline then follows the samples (e-fold), ms: over hours, not through an incident. */
const BASELINE_FOLLOW_MS = 1_800_000;
/** A sample counts for at most this multiple of the baseline, so that an incident does not become the new normal. */
const BASELINE_CLIP = 2;

/** Reasons that are the backend's failure. Anything else is the caller's, ours, or load. */
const HARD = new Set(["UPSTREAM_UNAVAILABLE", "UPSTREAM_TIMEOUT", "UPSTREAM_PROTOCOL", "UPSTREAM_UNAUTHORIZED", "STREAM_INTERRUPTED"]);

/** What the estimator knows of a backend at one moment. */
export interface Estimate {
  /** Attempts in the window that ended well or badly. */
  readonly attempts: number;
  /** 0..1; -1 = no observation. 429 counts as a failure here only. */
  readonly successRate: number;
  /** ms; 0 = no samples. */
  readonly ttftP50Ms: number;
  readonly ttftP95Ms: number;
  readonly tpotP50Ms: number;
  /** Medians of the last seconds; undefined = too few samples. */
  readonly recentTtftMs: number | undefined;
  readonly recentTpotMs: number | undefined;
  /** How much slower than its own long-term pace it is now; 0 = unknown. */
  readonly selfRatio: number;
  /** Streams that went silent in the last minute. */
  readonly stalls: number;
  /** Share of the last answers that were empty, 0..1; 0 while there are too few. */
  readonly garbageShare: number;
}

/** What a latency usually is: the mean of its first samples, which then follows the later ones slowly. */
export class Baseline {
  #count = 0;
  #atMs = 0;
  #value = 0;

  add(sample: number, nowMs: number): void {
    const follow = 1 - Math.exp(-(nowMs - this.#atMs) / BASELINE_FOLLOW_MS);
    const weight = this.#count < BASELINE_FIRST ? 1 / ++this.#count : follow;
    const clipped = this.#count === 1 ? sample : Math.min(sample, BASELINE_CLIP * this.#value);
    this.#value += weight * (clipped - this.#value);
    this.#atMs = nowMs;
  }

  /** How many times the usual a value is; 0 = unknown. */
  ratioOf(value: number | undefined): number {
    return value === undefined || this.#value <= 0 ? 0 : value / this.#value;
  }
}

/** Samples of one latency with their times, the oldest overwritten. */
class Samples {
  readonly #values = new Float64Array(SAMPLES_MAX);
  readonly #atMs = new Float64Array(SAMPLES_MAX).fill(Number.NEGATIVE_INFINITY);
  readonly baseline = new Baseline();
  #next = 0;

  add(value: number, nowMs: number): void {
    this.#values[this.#next] = value;
    this.#atMs[this.#next] = nowMs;
    this.#next = (this.#next + 1) % SAMPLES_MAX;
    this.baseline.add(value, nowMs);
  }

  /** Values not older than `ageMs`, ascending. */
  since(ageMs: number, nowMs: number): number[] {
    const values: number[] = [];
    for (let index = 0; index < SAMPLES_MAX; index++) if (nowMs - this.#atMs[index]! <= ageMs) values.push(this.#values[index]!);
    return values.sort((a, b) => a - b);
  }

  clear(): void {
    this.#atMs.fill(Number.NEGATIVE_INFINITY);
  }
}

/** Value at share `q` of ascending values; 0 when there are none. */
export function quantile(ascending: readonly number[], q: number): number {
  if (ascending.length === 0) return 0;
  return ascending[Math.min(ascending.length - 1, Math.floor(q * ascending.length))]!;
}

/** One backend's recent attempts, as a function of (ends, now); reads no clock. */
export class Estimator {
  readonly #bucketMs: number;
  readonly #good = new Float64Array(BUCKETS);
  readonly #bad = new Float64Array(BUCKETS);
  #bucket = Number.NEGATIVE_INFINITY;
  readonly #ttft = new Samples();
  readonly #tpot = new Samples();
  #stalls: number[] = [];
  #garbage: boolean[] = [];

  /** `windowMs` is the length of the success-rate window. */
  constructor(windowMs: number) {
    this.#bucketMs = windowMs / BUCKETS;
  }

  /** Takes in the end of one attempt. */
  add(end: Ended, nowMs: number): void {
    if (end.busy) return;
    const { reason } = end;
    const ok = end.outcome === Outcome.OK;
    const hard = end.outcome === Outcome.FAILED && HARD.has(reason);
    this.#turn(nowMs);
    const bucket = this.#bucket % BUCKETS;
    if (ok) this.#good[bucket]!++;
    else if (hard || (end.outcome === Outcome.FAILED && reason === "UPSTREAM_RATE_LIMITED")) this.#bad[bucket]!++;
    if (ok || hard) {
      this.#garbage.push(end.garbage);
      if (this.#garbage.length > GARBAGE_LAST) this.#garbage.shift();
    }
    if (hard && end.contentSeen && reason === "UPSTREAM_TIMEOUT") this.#stalls = [...this.#stalls, nowMs].slice(-STALLS_MAX);
    if (end.ttftMs > 0) this.#ttft.add(end.ttftMs, nowMs);
    const tokens = end.outputTokens;
    if (ok && end.ttftMs > 0 && tokens >= PACE_TOKENS_LEAST && end.durationMs > end.ttftMs)
      this.#tpot.add((end.durationMs - end.ttftMs) / (tokens - 1), nowMs);
  }

  /** Forgets what a verdict was built on, so that the next one needs new evidence. The baseline stays. */
  forget(): void {
    this.#good.fill(0);
    this.#bad.fill(0);
    this.#ttft.clear();
    this.#tpot.clear();
    this.#stalls = [];
    this.#garbage = [];
  }

  view(nowMs: number): Estimate {
    this.#turn(nowMs);
    const good = this.#good.reduce((sum, count) => sum + count, 0);
    const attempts = good + this.#bad.reduce((sum, count) => sum + count, 0);
    const ttft = this.#ttft.since(QUANTILES_MS, nowMs);
    const recentTtftMs = recentMedian(this.#ttft, nowMs);
    const recentTpotMs = recentMedian(this.#tpot, nowMs);
    this.#stalls = this.#stalls.filter((atMs) => nowMs - atMs <= STALL_WINDOW_MS);
    const garbage = this.#garbage.filter(Boolean).length;
    return {
      attempts,
      successRate: attempts === 0 ? -1 : good / attempts,
      ttftP50Ms: quantile(ttft, 0.5),
      ttftP95Ms: quantile(ttft, 0.95),
      tpotP50Ms: quantile(this.#tpot.since(QUANTILES_MS, nowMs), 0.5),
      recentTtftMs,
      recentTpotMs,
      selfRatio: Math.max(this.#ttft.baseline.ratioOf(recentTtftMs), this.#tpot.baseline.ratioOf(recentTpotMs)),
      stalls: this.#stalls.length,
      garbageShare: this.#garbage.length < GARBAGE_LAST ? 0 : garbage / this.#garbage.length,
    };
  }

  /** Moves the ring to now, emptying the buckets passed. */
  #turn(nowMs: number): void {
    const bucket = Math.floor(nowMs / this.#bucketMs);
    if (bucket <= this.#bucket) return;
    const passed = Math.min(BUCKETS, bucket - this.#bucket);
    for (let step = 0; step < passed; step++) {
      const index = (((bucket - step) % BUCKETS) + BUCKETS) % BUCKETS;
      this.#good[index] = 0;
      this.#bad[index] = 0;
    }
    this.#bucket = bucket;
  }
}

function recentMedian(samples: Samples, nowMs: number): number | undefined {
  const values = samples.since(RECENT_MS, nowMs);
  return values.length < SAMPLES_LEAST ? undefined : quantile(values, 0.5);
}
