import type { AttemptEnd } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import type { Deadline } from "#libs/resilience/index.ts";
import { attemptOpen, firstTokenTimeoutMs } from "./attempt-open.ts";
import { Attempt, type AttemptOwner, type AttemptPlan } from "./attempt.ts";
import type { Attempts } from "./attempts.ts";
import type { DispatchDeps } from "./dispatch-deps.ts";
import { Collected } from "./experiments/collected.ts";
import { reviewAnswer } from "./experiments/review.ts";
import { endedReport, startedReport } from "./reports.ts";

/** Whose attempts these are, as far as sending them goes. */
export interface LaunchOwner extends AttemptOwner {
  /** Whether the request is over. */
  readonly over: boolean;
  /** The attempt goes now; answers with the request's deadline. */
  sending(nowMs: number): Deadline;
  /** It was not sent: the request is over, or its intent could not be written. */
  unsent(error: Error | undefined): void;
  /** What it answers may leave, or may not. */
  released(attempt: Attempt, error: Error | undefined): void;
}

/** What is new about an attempt. */
interface NextAttempt extends Pick<AttemptPlan, "intake" | "decision" | "candidate" | "number" | "hedge" | "resume"> {
  /** Whether the answer is collected (true), looked at for signs (false), or neither. */
  readonly collects: boolean | undefined;
}

/** Makes the next attempt of a request and sends it when its intent is in the books. */
export function launchAttempt(deps: DispatchDeps, owner: LaunchOwner, attempts: Attempts, next: NextAttempt): void {
  const attempt = createAttempt(deps, owner, next);
  attempts.add(attempt);
  deps.outbox.beforeDispatch((error) => {
    const nowMs = deps.clock.monotonicMs();
    if (error === undefined && !owner.over) return sendAttempt(deps, attempt, owner.sending(nowMs), nowMs);
    attempts.open--;
    attempt.abandoned = true;
    attempt.endedMs = nowMs;
    deps.money.void(attempt, error === undefined ? "CANCELED" : "INTERNAL");
    owner.unsent(error);
  });
  deps.outbox.beforeAnswer((error) => owner.released(attempt, error));
}

function createAttempt(deps: DispatchDeps, owner: AttemptOwner, next: NextAttempt): Attempt {
  const attempt = new Attempt(
    {
      ...next,
      attemptId: deps.nextId(),
      spanId: deps.tracing.spanId(),
      firstTokenTimeoutMs: firstTokenTimeoutMs(next.candidate, next.intake, deps.config.current.resilience.timeouts),
      collected: next.collects === undefined ? undefined : new Collected(next.intake.body, next.collects, deps.collecting),
    },
    deps.clock,
    deps.policy,
    owner,
  );
  attempt.reservedNanoUsd = deps.money.intend(attempt);
  return attempt;
}

/** Hands the attempt to an adapter and tells the engine. */
function sendAttempt(deps: DispatchDeps, attempt: Attempt, deadline: Deadline, nowMs: number): void {
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
  const review = attempt.collected && reviewAnswer(attempt.intake, end, attempt.collected);
  attempt.settlement = deps.money.settle(attempt, end, { durationMs, ttftMs: attempt.ttftMs, gpuSeconds, review });
  const { decisionId } = attempt.intake.decide;
  const { costNanoUsd } = attempt.settlement;
  deps.policy.report(endedReport(decisionId, attempt.attemptId, attempt.backend, end, durationMs, attempt.ttftMs, costNanoUsd, review));
}
