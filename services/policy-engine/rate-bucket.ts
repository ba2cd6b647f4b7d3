import type { RateLimitState } from "#gen/signalbox/policy/v1/policy_pb.ts";

const MINUTE_MS = 60_000;

/** A reset the provider puts further away than this is not believed, ms. */
const RESET_MAX_MS = 15 * MINUTE_MS;

/** One quota: what the provider said was left, less what went out since, until its reset; else the configured rate. */
class Quota {
  readonly #perMinute: number | undefined;
  #remaining: number;
  /** The most that was ever said to be left: what a whole quota is at least. */
  #most = 0;
  #resetAtMs = Number.NEGATIVE_INFINITY;
  #level: number;
  #filledAtMs: number;

  constructor(perMinute: number | undefined, nowMs: number) {
    this.#perMinute = perMinute;
    this.#remaining = Number.POSITIVE_INFINITY;
    this.#level = perMinute ?? Number.POSITIVE_INFINITY;
    this.#filledAtMs = nowMs;
  }

  /** Ms until `amount` may go and leave the share `spare` of the quota; 0 = now. What is more than the whole quota may go when it is full. */
  waitMs(amount: number, spare: number, nowMs: number): number {
    let wait = 0;
    if (nowMs < this.#resetAtMs && this.#remaining < amount + spare * this.#most) wait = this.#resetAtMs - nowMs;
    if (this.#perMinute !== undefined) {
      this.#fill(nowMs);
      const missing = Math.min(amount + spare * this.#perMinute, this.#perMinute) - this.#level;
      if (missing > 0) wait = Math.max(wait, (missing / this.#perMinute) * MINUTE_MS);
    }
    return wait;
  }

  take(amount: number, nowMs: number): void {
    this.#remaining -= amount;
    if (this.#perMinute === undefined) return;
    this.#fill(nowMs);
    this.#level -= amount;
  }

  observe(remaining: number, resetMs: number, nowMs: number): void {
    if (remaining < 0 || resetMs < 0) return;
    this.#remaining = remaining;
    this.#most = Math.max(this.#most, remaining);
    this.#resetAtMs = nowMs + Math.min(resetMs, RESET_MAX_MS);
  }

  #fill(nowMs: number): void {
    if (this.#perMinute === undefined || nowMs <= this.#filledAtMs) return;
    this.#level = Math.min(this.#perMinute, this.#level + ((nowMs - this.#filledAtMs) / MINUTE_MS) * this.#perMinute);
    this.#filledAtMs = nowMs;
  }
}

/** A provider's rate limits as this engine sees them: its own Retry-After, its headers, and the configured requests and tokens a minute. */
export class RateBucket {
  readonly #requests: Quota;
  readonly #tokens: Quota;
  #blockedUntilMs = Number.NEGATIVE_INFINITY;
  /** Until when any of these can hold a request back; most backends have no limits, and every decision asks. */
  #boundUntilMs: number;

  constructor(limits: { readonly rpm: number | undefined; readonly tpm: number | undefined }, nowMs: number) {
    this.#requests = new Quota(limits.rpm, nowMs);
    this.#tokens = new Quota(limits.tpm, nowMs);
    this.#boundUntilMs = limits.rpm === undefined && limits.tpm === undefined ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  }

  /** Ms until a request of `tokens` may go, leaving the share `spare` of each quota to others; 0 = now. */
  waitMs(tokens: number, nowMs: number, spare = 0): number {
    if (nowMs >= this.#boundUntilMs) return 0;
    return Math.max(0, this.#blockedUntilMs - nowMs, this.#requests.waitMs(1, spare, nowMs), this.#tokens.waitMs(tokens, spare, nowMs));
  }

  /** A request of `tokens` goes out. */
  take(tokens: number, nowMs: number): void {
    this.#requests.take(1, nowMs);
    this.#tokens.take(tokens, nowMs);
  }

  /** The provider said when to come back. */
  block(retryAfterMs: number, nowMs: number): void {
    this.#blockedUntilMs = Math.max(this.#blockedUntilMs, nowMs + Math.min(retryAfterMs, RESET_MAX_MS));
    this.#boundUntilMs = Math.max(this.#boundUntilMs, this.#blockedUntilMs);
  }

  /** The provider said in response headers what is left. */
  observe(state: RateLimitState, nowMs: number): void {
    this.#requests.observe(state.remainingRequests, state.resetRequestsMs, nowMs);
    this.#tokens.observe(state.remainingTokens, state.resetTokensMs, nowMs);
    this.#boundUntilMs = Math.max(this.#boundUntilMs, nowMs + RESET_MAX_MS);
  }
}
