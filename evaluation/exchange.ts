import type { AttemptEnded, AttemptReport, Candidate, DecideRequest, Decision } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Clock, Random, Timer } from "#libs/clock/index.ts";
import type { PolicySession } from "#libs/peers/index.ts";
import { FIRST_FAILOVER_COST, RETRY_COST, type RetryBudget } from "#libs/resilience/index.ts";
import type { Failure } from "./faults.ts";
import type { Placement, PoolRequest } from "./pool.ts";

/** Times a request asks again after its candidates are spent, and its back-off then, ms: as the ingress has them. */
const REDECIDE_MAX = 4;
const BACKOFF_BASE_MS = 100;
const BACKOFF_MAX_MS = 5_000;

/** What exchanges share. */
export interface ExchangeDeps {
  readonly session: PolicySession;
  readonly clock: Clock;
  readonly random: Random;
  readonly indexOf: ReadonlyMap<string, number>;
  readonly budget: RetryBudget;
  /** Tells the health monitor of an attempt's end. */
  readonly completed: (backend: string, attemptId: string, ended: AttemptEnded) => void;
}

interface Attempt {
  readonly id: string;
  readonly candidate: Candidate;
  readonly startedMs: number;
  readonly timeout: Timer | undefined;
  ttftMs: number;
  cachedTokens: number;
}

const TIMED_OUT: Failure = { reason: "UPSTREAM_TIMEOUT", httpStatus: 0, retryAfterMs: 0 };

/**
 * One request from decision to end: a model of the ingress's dispatch without its sockets. Candidates in their order, then another
 * decision without those tried, then the same ones after a back-off, all under the retry budget and the number of attempts.
 */
export class Exchange {
  readonly #deps: ExchangeDeps;
  readonly #request: PoolRequest;
  readonly #decide: DecideRequest;
  readonly #placement: Placement;
  readonly #closed: () => void;
  #decision: Decision | undefined;
  #candidates: Candidate[] = [];
  #tried: string[] = [];
  #attempts = 0;
  #redecisions = 0;
  #failure: Failure | undefined;
  #attempt: Attempt | undefined;

  constructor(deps: ExchangeDeps, request: PoolRequest, decide: DecideRequest, placement: Placement, closed: () => void) {
    this.#deps = deps;
    this.#request = request;
    this.#decide = decide;
    this.#placement = placement;
    this.#closed = closed;
  }

  start(): void {
    this.#ask([]);
  }

  firstToken(ttftMs: number, cachedTokens: number): void {
    const attempt = this.#attempt!;
    attempt.timeout?.cancel();
    attempt.ttftMs = ttftMs;
    attempt.cachedTokens = cachedTokens;
    this.#report({ case: "firstToken", value: { $typeName: "signalbox.policy.v1.AttemptFirstToken", ttftMs } });
  }

  gap(gapMs: number, outputTokens: number): void {
    this.#report({ case: "gap", value: { $typeName: "signalbox.policy.v1.AttemptGap", gapMs, outputTokens } });
  }

  done(durationMs: number): void {
    this.#ended(Outcome.OK, undefined, durationMs);
    this.#close();
  }

  failed(failure: Failure): void {
    const attempt = this.#attempt!;
    attempt.timeout?.cancel();
    this.#ended(Outcome.FAILED, failure, this.#deps.clock.monotonicMs() - attempt.startedMs);
    this.#failure = failure;
    this.#next(failure);
  }

  #ask(exclude: string[]): void {
    const { decision } = this.#deps.session.decide(exclude.length === 0 ? this.#decide : { ...this.#decide, exclude });
    if (decision instanceof Promise)
      decision.then(
        (value) => this.#decided(value),
        () => this.#refuse("NO_BACKEND"),
      );
    else this.#decided(decision);
  }

  #decided(decision: Decision): void {
    const { result } = decision;
    if (result.case !== "allow") {
      if (this.#failure === undefined) return this.#refuse(result.case === "deny" ? result.value.reason : "NO_BACKEND");
      return this.#again(this.#failure);
    }
    if (this.#decision === undefined) this.#deps.budget.deposit(this.#deps.clock.monotonicMs());
    this.#decision ??= decision;
    this.#candidates = result.value.candidates.slice();
    this.#launch();
  }

  #launch(): void {
    const candidate = this.#candidates.shift()!;
    const { clock } = this.#deps;
    this.#attempts++;
    this.#tried.push(candidate.backend);
    const id = `${this.#decide.decisionId}/${this.#attempts}`;
    const timeoutMs = candidate.firstTokenTimeoutMs;
    const timeout = timeoutMs > 0 ? clock.after(timeoutMs, () => this.#timedOut()) : undefined;
    this.#attempt = { id, candidate, startedMs: clock.monotonicMs(), timeout, ttftMs: 0, cachedTokens: 0 };
    const started = { $typeName: "signalbox.policy.v1.AttemptStarted" as const, attempt: this.#attempts, hedge: false };
    this.#report({ case: "started", value: started });
    const priority = candidate.enginePrioritySet ? candidate.enginePriority : 0;
    this.#placement.send(this.#deps.indexOf.get(candidate.backend)!, priority);
  }

  #timedOut(): void {
    this.#placement.withdraw();
    this.failed(TIMED_OUT);
  }

  /** The ingress's rules after a failure before the first content byte. */
  #next(failure: Failure): void {
    const most = this.#decision!.maxAttempts;
    if (this.#attempts >= most) return this.#refuse(failure.reason);
    const another = this.#candidates.length > 0;
    if (!another && this.#redecisions >= REDECIDE_MAX) return this.#again(failure);
    if (!this.#pay(this.#attempts <= 1 ? FIRST_FAILOVER_COST : RETRY_COST)) return this.#refuse(failure.reason);
    if (another) return this.#launch();
    this.#redecisions++;
    this.#ask([...new Set(this.#tried)]);
  }

  /** Nobody else is left: the same ones once more, after a pause. */
  #again(failure: Failure): void {
    const { clock, random } = this.#deps;
    if (failure.reason === "UPSTREAM_RATE_LIMITED" || !this.#pay(RETRY_COST)) return this.#refuse(failure.reason);
    const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** Math.max(0, this.#attempts - 1));
    this.#tried = [];
    this.#failure = undefined;
    clock.after(Math.ceil(ceiling * random.next()), () => this.#ask([]));
  }

  #pay(cost: number): boolean {
    return this.#deps.budget.withdraw(cost, this.#deps.clock.monotonicMs());
  }

  #refuse(reason: string): void {
    this.#placement.refuse(reason);
    this.#close();
  }

  #close(): void {
    this.#report({ case: "requestDone", value: { $typeName: "signalbox.policy.v1.RequestDone" } });
    this.#closed();
  }

  #ended(outcome: Outcome, failure: Failure | undefined, durationMs: number): void {
    const { id, candidate, ttftMs, cachedTokens } = this.#attempt!;
    const ok = outcome === Outcome.OK;
    const { inputTokens, outputTokens } = this.#request;
    const value: AttemptEnded = {
      $typeName: "signalbox.policy.v1.AttemptEnded",
      outcome,
      durationMs,
      ttftMs,
      contentSeen: ok,
      usageKnown: ok,
      inputTokens: ok ? inputTokens - cachedTokens : 0,
      cacheReadTokens: cachedTokens,
      outputTokens: ok ? outputTokens : 0,
      reasoningTokens: 0,
      rateLimit: undefined,
      garbage: false,
      responseId: "",
      reason: failure?.reason ?? "",
      retryAfterMs: failure?.retryAfterMs ?? 0,
      httpStatus: failure?.httpStatus ?? 200,
      costNanoUsd: 0n,
    };
    this.#report({ case: "ended", value });
    this.#deps.completed(candidate.backend, id, value);
  }

  #report(event: AttemptReport["event"]): void {
    const { session } = this.#deps;
    const attemptId = this.#attempt?.id ?? "";
    const backend = this.#attempt?.candidate.backend ?? "";
    session.report({ $typeName: "signalbox.policy.v1.AttemptReport", decisionId: this.#decide.decisionId, attemptId, backend, event });
  }
}
