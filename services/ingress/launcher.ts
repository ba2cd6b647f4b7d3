import type { AttemptEnd } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import type { Deadline } from "#libs/resilience/index.ts";
import { attemptOpen, firstTokenTimeoutMs } from "./attempt-open.ts";
import { Attempt, type AttemptOwner, type AttemptPlan } from "./attempt.ts";
import type { DispatchDeps } from "./dispatch-deps.ts";
import { endedReport, startedReport } from "./reports.ts";

/** Makes the next attempt of a request and writes its intent. */
export function createAttempt(
  deps: DispatchDeps,
  owner: AttemptOwner,
  next: Pick<AttemptPlan, "intake" | "decision" | "candidate" | "number" | "hedge" | "resume">,
): Attempt {
  const attempt = new Attempt(
    {
      ...next,
      attemptId: deps.nextId(),
      spanId: deps.tracing.spanId(),
      firstTokenTimeoutMs: firstTokenTimeoutMs(next.candidate, next.intake, deps.config.current.resilience.timeouts),
    },
    deps.clock,
    deps.policy,
    owner,
  );
  attempt.reservedNanoUsd = deps.money.intend(attempt);
  return attempt;
}

/** Hands the attempt to an adapter and tells the engine. */
export function sendAttempt(deps: DispatchDeps, attempt: Attempt, deadline: Deadline, nowMs: number): void {
  const { intake } = attempt;
  attempt.gpuStart = deps.gpuShare.start(attempt.backend, nowMs);
  const traceparent = deps.tracing.traceparent(intake.trace, attempt.spanId);
  const open = attemptOpen(attempt, deps.config.current.resilience.timeouts, traceparent, deadline.remainingMs(nowMs));
  attempt.handle = deps.adapters.attempt(open, attempt);
  deps.policy.report(startedReport(intake.decide.decisionId, attempt.attemptId, attempt.backend, attempt.number, attempt.hedge));
}

/** Settles an ended attempt with the books and the engine. */
export function settleAttempt(deps: DispatchDeps, attempt: Attempt, end: AttemptEnd): void {
  const durationMs = attempt.endedMs - attempt.startedMs;
  const gpuSeconds = deps.gpuShare.end(attempt.backend, attempt.gpuStart, attempt.endedMs);
  attempt.settlement = deps.money.settle(attempt, end, durationMs, attempt.ttftMs, gpuSeconds);
  const { decisionId } = attempt.intake.decide;
  const { costNanoUsd } = attempt.settlement;
  deps.policy.report(endedReport(decisionId, attempt.attemptId, attempt.backend, end, durationMs, attempt.ttftMs, costNanoUsd, undefined));
}
