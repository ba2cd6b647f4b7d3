import type { AttemptEnd } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { type Candidate, type Decision, MidStream, Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { CancelReason } from "#libs/peers/index.ts";
import { Deadline } from "#libs/resilience/index.ts";
import { Answer } from "./answer.ts";
import type { Attempt } from "./attempt.ts";
import { Decider, type DeciderOwner } from "./decider.ts";
import { Decisions } from "./decisions.ts";
import type { DispatchDeps } from "./dispatch-deps.ts";
import type { ExchangeState } from "./exchange-state.ts";
import { denialOf, type Failure, failureOf, givenUp, interruption, ledgerUnavailable, lostCandidate } from "./failures.ts";
import type { NextStep } from "./failover.ts";
import type { Intake } from "./intake.ts";
import { settleAttempt } from "./launcher.ts";
import { ANSWER_MAX_BYTES } from "./limits.ts";
import { Pause } from "./pause.ts";
import { factsOf } from "./reply-facts.ts";
import type { Reply, ReplyFacts } from "./reply.ts";
import { requestDoneReport } from "./reports.ts";
import { RESUME_NEEDS, type ResumePlan, Resumption, usageEventOf } from "./resume.ts";
import { Tries, type TriesOwner } from "./tries.ts";

const CLIENT_GONE = 499;

/**
 * One request from decision to last byte, and the only owner of failover between backends: candidates in their order under
 * retry budget and deadline until the first content byte has left for the client; after it an error event, never silence.
 */
export class Exchange implements TriesOwner, DeciderOwner {
  readonly #deps: DispatchDeps;
  readonly #intake: Intake;
  readonly #answer: Answer;
  readonly #onClosed: (exchange: Exchange) => void;
  readonly #decider: Decider;
  #state: ExchangeState = { kind: "deciding" };
  readonly #decisions: Decisions;
  #deadline: Deadline;
  readonly #tries: Tries;
  #winner: Attempt | undefined;
  /** Set where a broken answer may go on elsewhere. */
  #resumption: Resumption | undefined;
  #failure: Failure | undefined;
  readonly #pause: Pause;
  readonly #marks = { decideStartMs: 0, decideEndMs: 0, firstDispatchMs: 0, firstByteMs: 0 };
  #closed = false;

  constructor(deps: DispatchDeps, intake: Intake, reply: Reply, onClosed: (exchange: Exchange) => void) {
    this.#deps = deps;
    this.#intake = intake;
    this.#decisions = new Decisions(intake, deps.witness);
    this.#answer = new Answer(reply, intake.startedMs);
    this.#onClosed = onClosed;
    this.#deadline = Deadline.after(intake.startedMs, intake.decide.deadlineMs);
    this.#decider = new Decider(deps, intake, this);
    this.#tries = new Tries(deps, intake, this);
    this.#pause = new Pause(deps, () => this.#decide([]));
  }

  /** Asks for the decision and lets the rest follow. */
  start(): void {
    this.#marks.decideStartMs = this.#now();
    this.#decide([]);
  }

  /** The client went away: everything upstream ends now, queued or running. */
  cancel(): void {
    if (this.#state.kind !== "done") this.#finish(CLIENT_GONE);
  }

  /** A better class needs the room of an attempt: while nothing of it has come, its request is decided anew, unseen by the client. */
  preempt(attemptId: string): void {
    const { attempts, candidates, progress } = this.#tries;
    const attempt = attempts.all.find((each) => each.attemptId === attemptId);
    if (this.#state.kind !== "trying" || attempt === undefined || !attempt.isSilent) return;
    attempt.abandoned = attempt.preempted = true;
    attempt.forget();
    attempt.cancel("canceled");
    candidates.forgive(attempt.backend);
    progress.counted--;
    if (!attempts.hopeful) this.#decide([]);
  }

  /** The process leaves: the client gets an explicit error. */
  shutDown(): void {
    this.fail(new SignalboxError("SHUTTING_DOWN", "The server is shutting down."));
  }

  /** The reader took what was pending. */
  drained(): void {
    if (!this.#answer.blocked) return;
    this.#winner?.consumed(this.#answer.drained());
    this.#flush();
  }

  /** Looks at every time limit; called by the wheel. For `lostMs` since the last time this process stood still. */
  tick(nowMs: number, lostMs: number): void {
    if (this.#state.kind === "done") return;
    if (this.#deadline.isOver(nowMs))
      return this.fail(new SignalboxError("DEADLINE_EXCEEDED", "The deadline of the request passed."), "deadline");
    if (this.#answer.isStalled(nowMs, this.#deps.config.current.server.api.readerTimeoutMs)) {
      this.#answer.drop();
      return this.cancel();
    }
    if (this.#intake.stream && this.#answer.isQuiet(nowMs)) this.#answer.keepAlive(this.#facts(this.#latest, []), nowMs);
    if (this.#state.kind === "trying") this.#tries.watch(nowMs, lostMs, () => this.#state.kind === "trying");
  }

  arrived(attempt: Attempt): void {
    if (this.#state.kind === "done" || attempt.abandoned) return attempt.forget();
    if (!this.#intake.stream) {
      if (attempt.heldBytes > ANSWER_MAX_BYTES) return this.#abandon(attempt, "UPSTREAM_PROTOCOL");
      attempt.consumed(attempt.held.at(-1)?.length ?? 0);
    }
    if (!attempt.contentSeen) return;
    if (this.#winner === undefined) this.#choose(attempt);
    if (this.#winner === attempt) this.#flush();
  }

  ended(attempt: Attempt, end: AttemptEnd): void {
    this.#tries.attempts.open--;
    settleAttempt(this.#deps, attempt, end);
    if (this.#state.kind === "done") return this.#close();
    if (attempt.abandoned) return;
    if (end.outcome === Outcome.OK && this.#winner === undefined) this.#choose(attempt);
    if (end.outcome === Outcome.OK || this.#state.kind === "answering") {
      if (this.#winner === attempt) this.#flush();
      return;
    }
    if (this.#winner === attempt) this.#winner = undefined;
    attempt.abandoned = true;
    attempt.forget();
    const failure = failureOf(end, attempt.candidate);
    if (failure.busy) {
      this.#tries.progress.counted--;
      this.#tries.progress.skips++;
    }
    this.failed(this.plan === undefined ? failure : lostCandidate(failure));
  }

  // ---- deciding

  #decide(exclude: string[]): void {
    this.#state = { kind: "deciding" };
    const needs = this.plan === undefined ? 0 : RESUME_NEEDS;
    this.#decider.ask(exclude, this.#deadline.remainingMs(this.#now()), needs);
  }

  broke(error: SignalboxError): void {
    this.fail(this.#failure?.error ?? error);
  }

  answered(answer: Decision): void {
    const nowMs = this.#now();
    const isFirst = this.#decisions.first === undefined;
    // What a provider's rate limit made it wait is the queue's time, not the gateway's own.
    const { limitedMs } = this.#pause;
    const decision = isFirst && limitedMs > 0 ? { ...answer, queueMs: answer.queueMs + limitedMs } : answer;
    if (isFirst) {
      this.#marks.decideEndMs = nowMs;
      this.#deadline = this.#deadline.earlier(Deadline.after(nowMs, decision.deadlineMs));
    }
    const { result } = decision;
    const candidates = result.case === "allow" ? this.#able(result.value.candidates) : [];
    if (candidates.length === 0) return this.#denied(decision, nowMs);
    this.#decisions.allowed(decision);
    if (isFirst) {
      this.#deps.budgets.of(decision.model).deposit(nowMs);
      if (decision.midStream === MidStream.RESUME && this.#intake.resumable) this.#resumption = new Resumption();
    }
    this.#tries.candidates.refill(candidates);
    this.#tries.progress.spent = false;
    this.#state = { kind: "trying" };
    this.#tries.next();
  }

  /** Nobody is left. For a request that asked for anybody at all that is the last word, unless a rate limit lifts in time. */
  #denied(decision: Decision, nowMs: number): void {
    if (this.#failure !== undefined && (this.#decider.excluding || this.plan !== undefined)) {
      this.#tries.progress.spent = true;
      return this.#step(this.#failure);
    }
    const { result } = decision;
    const error = result.case === "deny" ? denialOf(result.value) : new SignalboxError("NO_BACKEND", "No backend is available.");
    const afterMs = this.#tries.progress.waitAfter(error, decision, this.#deadline, nowMs);
    if (afterMs !== undefined) return this.#wait(decision, afterMs, error);
    this.#decisions.denied(decision);
    this.fail(error);
  }

  #able(candidates: readonly Candidate[]): readonly Candidate[] {
    return this.#resumption?.able(candidates, this.#deps.config.current) ?? candidates;
  }

  // ---- trying

  get decided(): Decision | undefined {
    return this.#decisions.first;
  }

  get current(): Decisions["current"] {
    return this.#decisions.current;
  }

  get plan(): ResumePlan | undefined {
    return this.#resumption?.plan;
  }

  late(attempt: Attempt): void {
    this.#abandon(attempt, "UPSTREAM_TIMEOUT");
  }

  get over(): boolean {
    return this.#state.kind === "done";
  }

  sending(nowMs: number): Deadline {
    this.#marks.firstDispatchMs ||= nowMs;
    return this.#deadline;
  }

  unsent(error: Error | undefined): void {
    if (this.over) return this.#close();
    this.fail(error instanceof SignalboxError ? error : ledgerUnavailable());
  }

  released(attempt: Attempt, error: Error | undefined): void {
    if (error !== undefined) {
      if (!this.over && !attempt.abandoned) this.fail(ledgerUnavailable());
      return;
    }
    attempt.released = true;
    if (this.#winner === attempt) this.#flush();
  }

  failed(failure: Failure): void {
    this.#failure = failure;
    if (!this.#tries.attempts.hopeful) this.#step(failure);
  }

  #step(failure: Failure): void {
    const nowMs = this.#now();
    const step = this.#tries.progress.next(failure, this.decided, this.#tries.candidates, this.#deadline, nowMs);
    if (step.kind !== "give_up" && step.cost > 0 && !this.withdraw(step.cost, nowMs)) return this.fail(failure.error);
    this.#take(step, nowMs);
  }

  #take(step: NextStep, nowMs: number): void {
    switch (step.kind) {
      case "give_up":
        return this.fail(step.error);
      case "try":
        this.#tries.candidates.prefer(step.candidate);
        this.#state = { kind: "trying" };
        return this.#tries.next();
      case "redecide": {
        const exclude = this.#tries.candidates.tried;
        this.#tries.progress.redecisions.push({ atMs: nowMs, exclude });
        return this.#decide(exclude);
      }
      case "again":
        this.#state = { kind: "pausing" };
        return this.#pause.start(step.afterMs);
      case "wait":
        return this.#wait(this.decided!, step.afterMs, step.error);
    }
  }

  /** Waits for a rate limit to lift; `error` where there is no place to. */
  #wait({ requestClass }: Decision, afterMs: number, error: SignalboxError): void {
    if (!this.#pause.startForLimit(requestClass, afterMs)) return this.fail(error);
    this.#state = { kind: "pausing" };
  }

  withdraw(cost: number, nowMs: number): boolean {
    return this.#deps.budgets.of(this.decided?.model ?? "").withdraw(cost, nowMs);
  }

  /** Gives an attempt up before its end arrived; the end will only be settled. */
  #abandon(attempt: Attempt, reason: "UPSTREAM_TIMEOUT" | "UPSTREAM_PROTOCOL"): void {
    attempt.abandoned = true;
    attempt.forget();
    if (this.#winner === attempt) this.#winner = undefined;
    attempt.cancel(reason === "UPSTREAM_TIMEOUT" ? "deadline" : "canceled");
    this.failed(givenUp(reason, attempt.candidate));
  }

  // ---- answering

  /** First content wins; a hedge that lost ends now. */
  #choose(attempt: Attempt): void {
    this.#winner = attempt;
    this.#tries.attempts.dropOthers(attempt);
  }

  /** Moves what the winner holds to the client, as far as the books and the reader allow. */
  #flush(): void {
    const attempt = this.#winner;
    if (attempt === undefined || !attempt.released || this.#state.kind === "done") return;
    if (this.#intake.stream) {
      if (this.#state.kind !== "answering") this.#commit(attempt);
      this.#answer.pump(attempt, this.#now(), this.#resumption);
      if (attempt.heldBytes > 0) return;
    }
    if (attempt.result !== undefined) this.#complete(attempt, attempt.result);
  }

  #commit(attempt: Attempt): void {
    this.#state = { kind: "answering", attempt };
    this.#marks.firstByteMs ||= this.#now();
    if (this.#resumption === undefined) this.#decisions.dropBodies();
    this.#answer.open(this.#facts(attempt, []));
    if (attempt.resume !== undefined) this.#answer.note(this.#resumption!.begin(attempt.candidate.provider));
  }

  #complete(attempt: Attempt, end: AttemptEnd): void {
    if (end.outcome !== Outcome.OK && !this.#isWhole(attempt, end)) return;
    const facts = this.#facts(attempt, end.warnings);
    if (this.#intake.stream) this.#answer.finish(facts, usageEventOf(this.#intake, end, this.#resumption));
    else {
      this.#marks.firstByteMs = this.#now();
      this.#answer.whole(facts, attempt.held);
    }
    this.#finish(200);
  }

  /** The answering attempt broke off: whether the client has everything all the same. If not, it goes on elsewhere or ends with an error. */
  #isWhole(attempt: Attempt, end: AttemptEnd): boolean {
    const error = interruption(end, attempt.candidate);
    const next = end.outcome === Outcome.FAILED ? (this.#resumption?.broke(attempt, error) ?? "stop") : "stop";
    if (next === "complete") return true;
    if (next === "stop") this.fail(error);
    if (next !== "resume") return false;
    this.#winner = undefined;
    this.#state = { kind: "trying" };
    this.#tries.candidates.refill(this.#able(this.#tries.candidates.left));
    this.failed(lostCandidate(failureOf(end, attempt.candidate)));
    return false;
  }

  // ---- the end

  fail(cause: SignalboxError, cancel: CancelReason = "canceled"): void {
    if (this.#state.kind === "done") return;
    // Behind content an upstream's failure has one name, whoever failed last.
    const error = cause.row.failover ? (this.#resumption?.error ?? cause) : cause;
    this.#answer.fail(error, this.#facts(this.#latest, []));
    this.#finish(error.httpStatus, error, cancel);
  }

  #finish(status: number, error?: SignalboxError, cancel: CancelReason = "canceled"): void {
    const before = this.#state;
    this.#state = { kind: "done", status, error };
    this.#marks.decideEndMs ||= this.#now();
    this.#decisions.dropBodies();
    if (before.kind === "deciding") this.#decider.withdraw();
    this.#pause.cancel();
    this.#tries.attempts.cancel(cancel);
    this.#close();
  }

  /** Once the answer is over and every attempt has ended: release and record. */
  #close(): void {
    if (this.#state.kind !== "done" || this.#tries.attempts.open > 0 || this.#closed) return;
    this.#closed = true;
    this.#deps.policy.report(requestDoneReport(this.#intake.decide.decisionId));
    this.#onClosed(this);
    const summary = {
      intake: this.#intake,
      decision: this.decided,
      attempts: this.#tries.attempts.all,
      winner: this.#winner,
      redecisions: this.#tries.progress.redecisions,
      status: this.#state.status,
      error: this.#state.error,
      ...this.#marks,
      endMs: this.#now(),
      costNanoUsd: this.#tries.attempts.costNanoUsd,
    };
    this.#deps.recorder.finished(summary);
    this.#decisions.finished(summary);
    this.#tries.attempts.release();
  }

  #facts(attempt: Attempt | undefined, warnings: readonly string[]): ReplyFacts {
    const routedMs = this.#marks.firstDispatchMs || this.#now();
    return factsOf(this.#intake, this.decided, this.#marks.decideEndMs > 0, this.#tries.attempts, attempt, routedMs, warnings);
  }

  get #latest(): Attempt | undefined {
    return this.#winner ?? this.#tries.attempts.latest;
  }

  #now(): number {
    return this.#deps.clock.monotonicMs();
  }
}
