import { Histogram, type Percentiles } from "./histogram.ts";

/** What one load run measured. Times in ms. */
export interface LoadReport {
  /** Length of the measured part. */
  readonly durationMs: number;
  /** Requests that ended in the measured part, well or not. */
  readonly requests: number;
  readonly ok: number;
  readonly errors: number;
  /** Errors by what happened: `status 429`, `stream without [DONE]`, `connection reset`, ... */
  readonly errorsByKind: Readonly<Record<string, number>>;
  /** Complete answers per second. */
  readonly rps: number;
  /** SSE events per second. */
  readonly eventsPerSecond: number;
  /** Whole requests: from the intended start (open) or the send (closed) to the last byte. */
  readonly latency: Percentiles;
  /** From the same start to the first event with content (the second event: the first names the role), or the first byte of a body. */
  readonly ttft: Percentiles;
  /** Mean time between the events of a stream, one value a stream. */
  readonly tpot: Percentiles;
  /** Open loop only: requests due but not begun when the run ended, for lack of connections. */
  readonly backlog: number;
}

/** Kinds of errors told apart; more become `other`. */
const ERROR_KINDS_MAX = 20;

/** Gathers what happens between `start` and the report. */
export class Recorder {
  readonly #latency = new Histogram();
  readonly #ttft = new Histogram();
  readonly #tpot = new Histogram();
  readonly #errors = new Map<string, number>();
  #ok = 0;
  #failed = 0;
  #events = 0;

  ok(latencyMs: number, ttftMs: number, tpotMs: number | undefined, events: number): void {
    this.#ok++;
    this.#events += events;
    this.#latency.record(latencyMs);
    this.#ttft.record(ttftMs);
    if (tpotMs !== undefined) this.#tpot.record(tpotMs);
  }

  error(kind: string): void {
    this.#failed++;
    const name = this.#errors.has(kind) || this.#errors.size < ERROR_KINDS_MAX ? kind : "other";
    this.#errors.set(name, (this.#errors.get(name) ?? 0) + 1);
  }

  report(durationMs: number, backlog: number): LoadReport {
    const seconds = durationMs / 1000;
    return {
      durationMs,
      requests: this.#ok + this.#failed,
      ok: this.#ok,
      errors: this.#failed,
      errorsByKind: Object.fromEntries(this.#errors),
      rps: this.#ok / seconds,
      eventsPerSecond: this.#events / seconds,
      latency: this.#latency.percentiles(),
      ttft: this.#ttft.percentiles(),
      tpot: this.#tpot.percentiles(),
      backlog,
    };
  }
}
