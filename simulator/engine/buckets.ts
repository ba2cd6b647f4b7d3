/** A bucket that refills evenly over a minute, as providers' RPM and TPM limits do. */
export class MinuteBucket {
  readonly limit: number;
  #level: number;
  #atMs: number;

  constructor(limitPerMinute: number, nowMs: number) {
    this.limit = limitPerMinute;
    this.#level = limitPerMinute;
    this.#atMs = nowMs;
  }

  /** Units left now. */
  remaining(nowMs: number): number {
    this.#refill(nowMs);
    return Math.max(0, Math.floor(this.#level));
  }

  /** Ms until `amount` fits; 0 = now. An amount above the limit waits for a full bucket. */
  waitMs(amount: number, nowMs: number): number {
    this.#refill(nowMs);
    const missing = Math.min(amount, this.limit) - this.#level;
    return missing <= 0 ? 0 : (missing / this.limit) * 60_000;
  }

  /** Ms until it is full again. */
  resetMs(nowMs: number): number {
    this.#refill(nowMs);
    return ((this.limit - this.#level) / this.limit) * 60_000;
  }

  take(amount: number): void {
    this.#level -= amount;
  }

  #refill(nowMs: number): void {
    this.#level = Math.min(this.limit, this.#level + ((nowMs - this.#atMs) / 60_000) * this.limit);
    this.#atMs = nowMs;
  }
}

/** Why a call is over a limit. */
export interface Limited {
  readonly what: "requests" | "tokens" | "concurrent";
  readonly limit: number;
  readonly used: number;
  readonly requested: number;
  readonly retryAfterMs: number;
}

/** Limits a provider states when it has none worth mentioning. */
const UNLIMITED_RPM = 30_000;
const UNLIMITED_TPM = 150_000_000;

/** A backend's provider limits. */
export class ProviderLimits {
  readonly requests: MinuteBucket;
  readonly tokens: MinuteBucket;
  readonly #concurrent: number;
  /** Whether any limit is set: without one nothing is ever refused. */
  readonly enforced: boolean;

  constructor(limits: { readonly rpm?: number; readonly tpm?: number; readonly concurrent?: number } | undefined, nowMs: number) {
    this.requests = new MinuteBucket(limits?.rpm ?? UNLIMITED_RPM, nowMs);
    this.tokens = new MinuteBucket(limits?.tpm ?? UNLIMITED_TPM, nowMs);
    this.#concurrent = limits?.concurrent ?? Infinity;
    this.enforced = limits !== undefined;
  }

  /** Takes one request of `tokens`, or says why not. */
  admit(tokens: number, running: number, nowMs: number): Limited | undefined {
    if (!this.enforced) return undefined;
    if (running >= this.#concurrent) {
      return { what: "concurrent", limit: this.#concurrent, used: running, requested: 1, retryAfterMs: 1000 };
    }
    const over = overrun("requests", this.requests, 1, nowMs) ?? overrun("tokens", this.tokens, tokens, nowMs);
    if (over) return over;
    this.requests.take(1);
    this.tokens.take(Math.min(tokens, this.tokens.limit));
    return undefined;
  }
}

function overrun(what: "requests" | "tokens", bucket: MinuteBucket, amount: number, nowMs: number): Limited | undefined {
  const retryAfterMs = bucket.waitMs(amount, nowMs);
  if (retryAfterMs <= 0) return undefined;
  return {
    what,
    limit: bucket.limit,
    used: bucket.limit - bucket.remaining(nowMs),
    requested: amount,
    retryAfterMs: Math.ceil(retryAfterMs),
  };
}
