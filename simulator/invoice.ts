/** One call the provider would bill. */
export interface InvoiceLine {
  readonly backend: string;
  /** The caller's `x-client-request-id`; empty when it sent none. */
  readonly client_request_id: string;
  readonly response_id: string;
  readonly model: string;
  /** Prompt tokens outside the cache. */
  readonly input_tokens: number;
  readonly cache_read_tokens: number;
  readonly cache_write_tokens: number;
  /** Tokens given, reasoning included. For a cut stream those really written. */
  readonly output_tokens: number;
  readonly reasoning_tokens: number;
  readonly stream: boolean;
  readonly status: number;
  /** Whether the answer was written to its end. */
  readonly completed: boolean;
  /** Whether the caller left first. */
  readonly canceled: boolean;
  /** Whether the caller was told this usage: without that it can only estimate. */
  readonly stated: boolean;
  /** When the call ended, ms since the epoch. */
  readonly at_ms: number;
}

/** One call a backend received, whatever came of it. */
export interface CallLine {
  readonly backend: string;
  readonly path: string;
  readonly client_request_id: string;
  /** Arrival, ms since the epoch. */
  readonly at_ms: number;
  /** Status answered; 0 = none (reset, silence, or not yet). */
  status: number;
  /** Fault kinds that struck it; empty = none. */
  faults: string;
}

/** Lines kept per list and backend: a long load test's worth, some hundred megabytes at the very most. */
const LINES_MAX = 1_000_000;

/** A list that forgets its oldest half when full, and counts what it forgot. */
export class BoundedLines<T> {
  #lines: T[] = [];
  /** Lines forgotten. */
  dropped = 0;

  add(line: T): void {
    if (this.#lines.length >= LINES_MAX) {
      this.dropped += LINES_MAX / 2;
      this.#lines = this.#lines.slice(LINES_MAX / 2);
    }
    this.#lines.push(line);
  }

  all(): readonly T[] {
    return this.#lines;
  }

  clear(): void {
    this.#lines = [];
    this.dropped = 0;
  }
}
