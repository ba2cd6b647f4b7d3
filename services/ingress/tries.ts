import type { Candidate, Decision } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { SignalboxError } from "#libs/errors/index.ts";
import { RETRY_COST } from "#libs/resilience/index.ts";
import type { Attempt } from "./attempt.ts";
import { Attempts } from "./attempts.ts";
import { Candidates } from "./candidates.ts";
import type { Decisions } from "./decisions.ts";
import type { DispatchDeps } from "./dispatch-deps.ts";
import { type Failure, ledgerUnavailable, unserved } from "./failures.ts";
import type { Intake } from "./intake.ts";
import { launchAttempt, type LaunchOwner } from "./launcher.ts";
import { Progress } from "./progress.ts";
import type { ResumePlan } from "./resume.ts";

/** Whose tries these are: it decides what follows from each. */
export interface TriesOwner extends LaunchOwner {
  /** The first decision; what the next attempt is made under; what it continues. */
  readonly decided: Decision | undefined;
  readonly current: Decisions["current"];
  readonly plan: ResumePlan | undefined;
  /** Nothing came of the candidates. */
  failed(failure: Failure): void;
  /** The request cannot go on. */
  fail(error: SignalboxError): void;
  /** The attempt gave no content in its time. */
  late(attempt: Attempt): void;
  /** Takes from the retry budget; false = there is not enough. */
  withdraw(cost: number, nowMs: number): boolean;
}

/** Who may be tried for one request, what was tried, and how far that went. */
export class Tries {
  readonly candidates: Candidates;
  readonly attempts = new Attempts();
  readonly progress: Progress;
  readonly #deps: DispatchDeps;
  readonly #owner: TriesOwner;

  constructor(deps: DispatchDeps, intake: Intake, owner: TriesOwner) {
    this.#deps = deps;
    this.#owner = owner;
    this.candidates = new Candidates(deps.adapters);
    this.progress = new Progress(deps, intake.startedMs);
  }

  /** Takes the next candidate some adapter serves. */
  next(): void {
    const candidate = this.candidates.take();
    if (candidate !== undefined) return this.#launch(candidate, false);
    this.progress.skips++;
    this.#owner.failed(unserved(this.candidates.discard()));
  }

  /** Looks at the time limits of attempts without content, as long as `isTrying` says so. */
  watch(nowMs: number, lostMs: number, isTrying: () => boolean): void {
    for (const attempt of this.attempts.all) {
      attempt.excuse(nowMs, lostMs);
      const due = attempt.due(nowMs);
      if (due === "late") this.#owner.late(attempt);
      else if (due === "hedge") this.#hedge(attempt, nowMs);
      if (!isTrying()) return;
    }
  }

  /** A second backend in parallel, once, while the first is silent. */
  #hedge(slow: Attempt, nowMs: number): void {
    const { attempts, progress, candidates } = this;
    if (attempts.hedged || progress.counted >= progress.attemptsMax(this.#owner.decided) || !this.#deps.outbox.accepting) return;
    const candidate = candidates.take(slow.backend);
    if (candidate === undefined) return;
    if (this.#owner.withdraw(RETRY_COST, nowMs)) this.#launch(candidate, true);
    else candidates.putBack(candidate);
  }

  #launch(candidate: Candidate, hedge: boolean): void {
    if (!this.#deps.outbox.accepting) return this.#owner.fail(ledgerUnavailable());
    this.progress.counted++;
    const { current, plan } = this.#owner;
    const number = this.attempts.all.length + 1;
    const next = { ...current, candidate, number, hedge, resume: plan };
    launchAttempt(this.#deps, this.#owner, this.attempts, next);
  }
}
