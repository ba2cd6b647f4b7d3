import type { Decision } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { SignalboxError } from "#libs/errors/index.ts";
import type { Deadline } from "#libs/resilience/index.ts";
import type { Candidates } from "./candidates.ts";
import type { DispatchDeps } from "./dispatch-deps.ts";
import { type NextStep, nextStep, rateWait } from "./failover.ts";
import type { Failure } from "./failures.ts";

type ProgressDeps = Pick<DispatchDeps, "config" | "random" | "rateWaits">;

/** How far a request has got in its search for a backend. */
export class Progress {
  /** Attempts made, BUSY ones not counted. */
  counted = 0;
  /** Backends found busy or unserved. */
  skips = 0;
  /** Whether the engine was asked again and had nobody else. */
  spent = false;
  readonly redecisions: { atMs: number; exclude: readonly string[] }[] = [];
  readonly #deps: ProgressDeps;
  readonly #startedMs: number;

  /** `startedMs`: when the request arrived, monotonic. */
  constructor(deps: ProgressDeps, startedMs: number) {
    this.#deps = deps;
    this.#startedMs = startedMs;
  }

  /** Most attempts the decision allows. */
  attemptsMax(decision: Decision | undefined): number {
    return decision?.maxAttempts || this.#deps.config.current.resilience.attempts.standard;
  }

  /** What follows from a failure. */
  next(failure: Failure, decision: Decision | undefined, candidates: Candidates, deadline: Deadline, nowMs: number): NextStep {
    const { config, random } = this.#deps;
    return nextStep(failure, {
      attempts: this.counted,
      attemptsMax: this.attemptsMax(decision),
      remainingMs: deadline.remainingMs(nowMs),
      remaining: candidates.left,
      redecisions: this.redecisions.length,
      skips: this.skips,
      spent: this.spent,
      contextOf: (backend) => config.current.backends.get(backend)?.contextTokens ?? 0,
      chance: random.next(),
      rateWaitMs: this.#rateWaitMs(decision, nowMs),
    });
  }

  /** How long a refused request waits before it asks once more, ms; undefined = it does not. */
  waitAfter(error: SignalboxError, decision: Decision, deadline: Deadline, nowMs: number): number | undefined {
    return rateWait(error, {
      remainingMs: deadline.remainingMs(nowMs),
      rateWaitMs: this.#rateWaitMs(decision, nowMs),
      chance: this.#deps.random.next(),
    });
  }

  #rateWaitMs(decision: Decision | undefined, nowMs: number): number {
    if (decision === undefined) return 0;
    return this.#deps.rateWaits.longestMs(decision.requestClass, decision.ttftTargetMs, nowMs - this.#startedMs);
  }
}
