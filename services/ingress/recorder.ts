import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import type { Tracing } from "#libs/telemetry/index.ts";
import type { RequestLog } from "./request-log.ts";
import type { RequestMetrics } from "./request-metrics.ts";
import { traceRequest } from "./request-trace.ts";
import type { Recorder, RequestSummary } from "./summary.ts";
import type { TokenFactors } from "./tokens.ts";

/** Tells metrics, log and trace of finished requests, and the estimator what providers counted. */
export class RequestRecorder implements Recorder {
  readonly #metrics: RequestMetrics;
  readonly #log: RequestLog;
  readonly #tracing: Tracing;
  readonly #config: ConfigSource;
  readonly #factors: TokenFactors;

  constructor(metrics: RequestMetrics, log: RequestLog, tracing: Tracing, config: ConfigSource, factors: TokenFactors) {
    this.#metrics = metrics;
    this.#log = log;
    this.#tracing = tracing;
    this.#config = config;
    this.#factors = factors;
  }

  began(): void {
    this.#metrics.began();
  }

  finished(summary: RequestSummary): void {
    this.#metrics.finished(summary);
    this.#log.finished(summary);
    traceRequest(summary, this.#tracing, this.#config.current.telemetry);
    this.#learn(summary);
  }

  #learn(summary: RequestSummary): void {
    const { winner, intake, decision } = summary;
    const usage = winner?.settlement?.usage;
    // A resumed prompt holds the answer's beginning besides what was estimated.
    if (winner?.resume !== undefined) return;
    if (decision === undefined || usage === undefined || winner?.result?.outcome !== Outcome.OK || !winner.result.usageKnown) return;
    const { size } = intake;
    const observed = usage.inputTokens + usage.cacheReadTokens + usage.cacheWriteTokens + usage.cacheWrite1hTokens;
    this.#factors.learn(decision.model, size.contentClass, size.textTokens, size.mediaTokens, observed);
  }
}
