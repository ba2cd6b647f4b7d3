import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Counter, Family, Gauge, Histogram, Metrics } from "#libs/telemetry/index.ts";
import { DURATION_BUCKETS_S, METRIC, TOKEN_BUCKETS, TOKEN_TIME_BUCKETS_S } from "#libs/telemetry/semconv.ts";
import type { Attempt } from "./attempt.ts";
import { outcomeWord } from "./outcome.ts";
import type { RequestSummary } from "./summary.ts";

/** Buckets of the gateway's own time, seconds. */
const OVERHEAD_BUCKETS_S = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1];

/** Label of requests that never got a decision: the name they asked for is the client's and unbounded. */
const NO_MODEL = "unknown";

/** The ingress's metrics. Labels come from the configuration, never from a client. */
export class RequestMetrics {
  readonly #requests: Family<Counter>;
  readonly #duration: Family<Histogram>;
  readonly #ttft: Family<Histogram>;
  readonly #tokenTime: Family<Histogram>;
  readonly #operation: Family<Histogram>;
  readonly #usage: Family<Histogram>;
  readonly #attempts: Family<Counter>;
  readonly #retries: Family<Counter>;
  readonly #tokens: Family<Counter>;
  readonly #cost: Family<Counter>;
  readonly #unpriced: Family<Counter>;
  readonly #overhead: Histogram;
  readonly #stale: Counter;
  readonly #inFlight: Gauge;
  #count = 0;

  constructor(metrics: Metrics) {
    this.#requests = metrics.counter(METRIC.requests, "Requests by outcome.", ["model", "status"]);
    this.#duration = metrics.histogram(METRIC.requestDuration, "Duration of requests.", DURATION_BUCKETS_S, [
      "gen_ai_request_model",
      "error_type",
    ]);
    this.#ttft = metrics.histogram(METRIC.timeToFirstToken, "Time to the first content byte.", DURATION_BUCKETS_S, [
      "gen_ai_request_model",
    ]);
    this.#tokenTime = metrics.histogram(METRIC.timePerOutputToken, "Time per output token after the first.", TOKEN_TIME_BUCKETS_S, [
      "gen_ai_request_model",
    ]);
    this.#operation = metrics.histogram(METRIC.operationDuration, "Duration of attempts.", DURATION_BUCKETS_S, ["backend", "error_type"]);
    this.#usage = metrics.histogram(METRIC.tokenUsage, "Tokens of attempts.", TOKEN_BUCKETS, ["gen_ai_request_model", "gen_ai_token_type"]);
    this.#attempts = metrics.counter(METRIC.attempts, "Attempts by outcome.", ["backend", "outcome"]);
    this.#retries = metrics.counter(METRIC.retries, "Attempts beyond the first.", ["model", "kind"]);
    this.#tokens = metrics.counter(METRIC.tokens, "Tokens booked.", ["model", "backend", "type"]);
    this.#cost = metrics.counter(METRIC.cost, "Cost booked, nano-USD.", ["model", "backend", "purpose"]);
    this.#unpriced = metrics.counter(METRIC.unpriced, "Attempts of backends without a price.", ["backend"]);
    this.#overhead = metrics.histogram(METRIC.overheadMs, "The gateway's own time before the first dispatch.", OVERHEAD_BUCKETS_S).with();
    this.#stale = metrics.counter(METRIC.decisionsStale, "Decisions made from a fallback.").with();
    this.#inFlight = metrics.gauge(METRIC.requestsInFlight, "Requests in dispatch.").with();
    metrics.onScrape(() => this.#inFlight.set(this.#count));
  }

  began(): void {
    this.#count++;
  }

  /** A request refused before dispatch. */
  refused(status: number): void {
    this.#requests.with(NO_MODEL, String(status)).add();
  }

  finished(summary: RequestSummary): void {
    this.#count--;
    const { intake, decision, winner } = summary;
    const model = decision?.model || NO_MODEL;
    this.#requests.with(model, String(summary.status)).add();
    this.#duration.with(model, summary.error?.code ?? "").observe((summary.endMs - intake.startedMs) / 1000);
    if (decision?.stale) this.#stale.add();
    const first = summary.attempts[0];
    if (first !== undefined) this.#overhead.observe(Math.max(0, first.startedMs - intake.startedMs - (decision?.queueMs ?? 0)) / 1000);
    if (winner !== undefined && intake.stream && summary.firstByteMs > 0) {
      this.#ttft.with(model).observe((summary.firstByteMs - intake.startedMs) / 1000);
      const output = winner.settlement?.usage.outputTokens ?? 0;
      if (output > 1) this.#tokenTime.with(model).observe((winner.endedMs - winner.startedMs - winner.ttftMs) / 1000 / (output - 1));
    }
    for (const attempt of summary.attempts) this.#attempt(model, attempt);
  }

  #attempt(model: string, attempt: Attempt): void {
    const { backend, result, settlement } = attempt;
    const outcome = outcomeWord(result?.outcome ?? Outcome.VOID);
    this.#attempts.with(backend, outcome).add();
    if (attempt.number > 1) this.#retries.with(model, attempt.hedge ? "hedge" : "retry").add();
    this.#operation.with(backend, result?.error?.reason ?? "").observe((attempt.endedMs - attempt.startedMs) / 1000);
    if (settlement === undefined || !settlement.posted) return;
    const { usage } = settlement;
    const input = usage.inputTokens + usage.cacheReadTokens + usage.cacheWriteTokens + usage.cacheWrite1hTokens;
    this.#usage.with(model, "input").observe(input);
    this.#usage.with(model, "output").observe(usage.outputTokens);
    this.#tokens.with(model, backend, "input").add(usage.inputTokens);
    this.#tokens.with(model, backend, "output").add(usage.outputTokens);
    if (usage.cacheReadTokens > 0) this.#tokens.with(model, backend, "cache_read").add(usage.cacheReadTokens);
    const written = usage.cacheWriteTokens + usage.cacheWrite1hTokens;
    if (written > 0) this.#tokens.with(model, backend, "cache_write").add(written);
    if (usage.reasoningTokens > 0) this.#tokens.with(model, backend, "reasoning").add(usage.reasoningTokens);
    this.#cost.with(model, backend, settlement.purpose).add(Number(settlement.costNanoUsd));
    if (settlement.unpriced) this.#unpriced.with(backend).add();
  }
}
