import type { Clock } from "#libs/clock/index.ts";
import type { SignalboxError } from "#libs/errors/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import { LOG_LINES_PER_S } from "./limits.ts";
import { classWord, outcomeWord } from "./outcome.ts";
import type { RequestSummary } from "./summary.ts";

/** Longest text from a client in a log line, characters. */
const LABEL_MAX = 64;

/** One info line per request, with its attempts inside (decision 30). No content, no keys. */
export class RequestLog {
  readonly #logger: Logger;
  readonly #clock: Clock;
  #secondMs = 0;
  #lines = 0;
  #skipped = 0;

  constructor(logger: Logger, clock: Clock) {
    this.#logger = logger;
    this.#clock = clock;
  }

  /** A request refused before dispatch. */
  refused(requestId: string, method: string, path: string, error: SignalboxError): void {
    if (!this.#admits(error.httpStatus >= 500)) return;
    this.#logger.info(
      { request_id: requestId, method, path: path.slice(0, LABEL_MAX), status: error.httpStatus, code: error.code, param: error.param?.slice(0, LABEL_MAX) },
      "request refused",
    ); // prettier-ignore
  }

  finished(summary: RequestSummary): void {
    const isFailure = summary.status >= 500 || summary.error !== undefined;
    if (!this.#admits(isFailure)) return;
    const { intake, decision, winner } = summary;
    const { decide } = intake;
    const fields: Record<string, unknown> = {
      request_id: intake.requestId,
      decision_id: decide.decisionId,
      trace_id: intake.trace.traceId,
      tenant: decide.tenant,
      team: decide.team || undefined,
      key_id: decide.keyId || undefined,
      model: decide.model.slice(0, LABEL_MAX),
      class: classWord(decision?.requestClass ?? decide.requestClass) || undefined,
      stream: intake.stream,
      status: summary.status,
      code: summary.error?.code,
      backend: winner?.backend,
      queue_ms: decision && decision.queueMs > 0 ? round(decision.queueMs) : undefined,
      duration_ms: round(summary.endMs - intake.startedMs),
      ttft_ms: summary.firstByteMs > 0 ? round(summary.firstByteMs - intake.startedMs) : undefined,
      cost_nano_usd: summary.costNanoUsd.toString(),
      stale: decision?.stale || undefined,
      attempts: summary.attempts.map((attempt) => ({
        id: attempt.attemptId,
        backend: attempt.backend,
        outcome: outcomeWord(attempt.result?.outcome ?? 6),
        reason: attempt.result?.error?.reason || undefined,
        status: attempt.result?.error?.httpStatus || undefined,
        hedge: attempt.hedge || undefined,
        ttft_ms: attempt.ttftMs > 0 ? round(attempt.ttftMs) : undefined,
        duration_ms: round(attempt.endedMs - attempt.startedMs),
        input_tokens: attempt.settlement?.usage.inputTokens,
        output_tokens: attempt.settlement?.usage.outputTokens,
        estimated: attempt.settlement?.estimated || undefined,
      })),
    };
    if (summary.error?.reason === "INTERNAL") fields["err"] = summary.error.cause;
    if (this.#skipped > 0) fields["lines_skipped"] = this.#skipped;
    this.#skipped = 0;
    this.#logger.info(fields, "request");
  }

  /** Failures always; everything else up to the rate. */
  #admits(isFailure: boolean): boolean {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#secondMs >= 1000) {
      this.#secondMs = nowMs;
      this.#lines = 0;
    }
    if (isFailure || this.#lines < LOG_LINES_PER_S) {
      this.#lines++;
      return true;
    }
    this.#skipped++;
    return false;
  }
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}
