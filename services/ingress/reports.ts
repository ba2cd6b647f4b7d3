import type { AttemptEnd } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import type { AnswerReview, AttemptReport } from "#gen/signalbox/policy/v1/policy_pb.ts";

type ReportEvent = AttemptReport["event"];

function report(decisionId: string, attemptId: string, backend: string, event: ReportEvent): AttemptReport {
  return { $typeName: "signalbox.policy.v1.AttemptReport", decisionId, attemptId, backend, event };
}

/** Bytes are going upstream. */
export function startedReport(decisionId: string, attemptId: string, backend: string, attempt: number, hedge: boolean): AttemptReport {
  return report(decisionId, attemptId, backend, {
    case: "started",
    value: { $typeName: "signalbox.policy.v1.AttemptStarted", attempt, hedge },
  });
}

/** First content arrived. */
export function firstTokenReport(decisionId: string, attemptId: string, backend: string, ttftMs: number): AttemptReport {
  return report(decisionId, attemptId, backend, {
    case: "firstToken",
    value: { $typeName: "signalbox.policy.v1.AttemptFirstToken", ttftMs },
  });
}

/** Mean gap per output token since the last sample. */
export function gapReport(decisionId: string, attemptId: string, backend: string, gapMs: number, outputTokens: number): AttemptReport {
  return report(decisionId, attemptId, backend, {
    case: "gap",
    value: { $typeName: "signalbox.policy.v1.AttemptGap", gapMs, outputTokens },
  });
}

/** The attempt is over and came to `costNanoUsd`. `durationMs` and `ttftMs` as the ingress saw them where the adapter gives none. */
export function endedReport(
  decisionId: string,
  attemptId: string,
  backend: string,
  end: AttemptEnd,
  durationMs: number,
  ttftMs: number,
  costNanoUsd: bigint,
  review: AnswerReview | undefined,
): AttemptReport {
  const usage = end.usage;
  return report(decisionId, attemptId, backend, {
    case: "ended",
    value: {
      $typeName: "signalbox.policy.v1.AttemptEnded",
      outcome: end.outcome,
      reason: end.error?.reason ?? "",
      durationMs: end.durationMs || durationMs,
      ttftMs: end.ttftMs || ttftMs,
      inputTokens: usage?.inputTokens ?? 0,
      cacheReadTokens: usage?.cacheReadTokens ?? 0,
      outputTokens: usage?.outputTokens ?? 0,
      retryAfterMs: end.error?.retryAfterMs ?? 0,
      rateLimit: end.rateLimit,
      contentSeen: end.contentSeen,
      usageKnown: end.usageKnown,
      reasoningTokens: usage?.reasoningTokens ?? 0,
      httpStatus: end.error?.httpStatus ?? 0,
      garbage: end.garbage,
      responseId: end.responseId,
      costNanoUsd,
      review,
    },
  });
}

/** Everything the decision still holds is released. */
export function requestDoneReport(decisionId: string): AttemptReport {
  return report(decisionId, "", "", { case: "requestDone", value: { $typeName: "signalbox.policy.v1.RequestDone" } });
}
