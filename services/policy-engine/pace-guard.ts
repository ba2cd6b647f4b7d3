import { gapMs, prefillMsPerToken } from "./predict.ts";
import type { Resolved, SchedulingClass } from "./resolve.ts";
import type { CompiledBackend } from "./snapshot.ts";
import type { BackendState } from "./state.ts";

/** Answers followed at one backend: what an engine runs at once by default; those beyond are not looked after. */
const FOLLOWED_MAX = 256;

/** Answers that one prompt may make late: to wait for a single one would be to risk one request for one other. */
const ALLOWED_LATE = 1;

/** Share of its target for the first token, and of any other time it has, that a request may spend waiting for others: the rest is for its own prompt. */
const PATIENCE_SHARE = 0.5;

/** Classes that wait for running answers: somebody waits for their first token, and it has a target. */
const PATIENT: readonly SchedulingClass[] = ["interactive", "standard"];

/** A running answer, as far as its pace goes. */
export interface Pace {
  /** What prompts behind it may still add up to before its mean time per token misses the target, ms; negative = it is late already. */
  slackMs: number;
  /** When it is expected to end. */
  endsAtMs: number;
  /** Where it stands among those followed; `enter` sets it. */
  at: number;
}

/** What of a request its pace depends on. */
export interface PacedRequest {
  readonly request: { readonly stream: boolean };
  readonly class: SchedulingClass;
  readonly uncachedTokens: number;
  readonly expectedOutput: number;
}

/**
 * The running answers of one backend and what prompts do to them: while an engine computes a prompt, nothing it runs gets a token. An
 * answer of a dozen tokens is late after two or three long prompts, and it would have ended in a moment: the prompt behind it can
 * wait for that without being late itself, as times to first token leave more room than short answers do.
 */
export class PaceGuard {
  readonly #running: Pace[] = [];

  /** Answers followed. */
  get size(): number {
    return this.#running.length;
  }

  /** A prompt of `stallMs` is sent: those that run lose that time. */
  stall(stallMs: number): void {
    for (const pace of this.#running) {
      pace.slackMs -= stallMs;
      pace.endsAtMs += stallMs;
    }
  }

  /** Follows an answer until `leave`; undefined when there are too many. */
  enter(slackMs: number, endsAtMs: number): Pace | undefined {
    if (this.#running.length >= FOLLOWED_MAX) return undefined;
    const pace = { slackMs, endsAtMs, at: this.#running.length };
    this.#running.push(pace);
    return pace;
  }

  /** The answer has ended. */
  leave({ at }: Pace): void {
    const last = this.#running.pop()!;
    if (last.at === at) return;
    last.at = at;
    this.#running[at] = last;
  }

  /** Whether a prompt of `stallMs` sent now makes more answers late than is allowed that would have ended by `untilMs`. */
  forbids(stallMs: number, nowMs: number, untilMs: number): boolean {
    let late = 0;
    for (const { slackMs, endsAtMs } of this.#running) {
      if (slackMs >= 0 && slackMs < stallMs && endsAtMs > nowMs && endsAtMs <= untilMs) late++;
    }
    return late > ALLOWED_LATE;
  }
}

/** Time a prompt takes up of an engine by what is learned of it, ms. */
export function stallOf(backend: CompiledBackend, state: BackendState, uncachedTokens: number): number {
  return prefillMsPerToken(backend, state) * uncachedTokens;
}

/**
 * A request is sent to a backend: those that run there lose the time of its prompt. Its own answer is followed where somebody reads it
 * as it comes; the caller gives what this returns to `leave` at its end.
 */
export function followPace(
  backend: CompiledBackend,
  state: BackendState,
  paced: PacedRequest,
  predictedTtftMs: number,
  targetMs: number,
  nowMs: number,
): Pace | undefined {
  if (!backend.structural) return undefined;
  state.paces.stall(stallOf(backend, state, paced.uncachedTokens));
  if (!paced.request.stream || paced.class === "batch" || targetMs === Number.POSITIVE_INFINITY) return undefined;
  const gap = gapMs(backend, state, state.load, state.contextTokens + state.peerContextTokens);
  const gaps = Math.max(1, paced.expectedOutput - 1);
  return state.paces.enter((targetMs - gap) * gaps, nowMs + predictedTtftMs + gap * gaps);
}

/**
 * Until when a request may wait for running answers. `sinceMs`: when it came, or whoever has waited longest of its class, if that was
 * earlier: a queue in which somebody's patience is over must not stand still for those who came later. `maxWaitMs`: what its class
 * lets it wait at most.
 */
export function patientUntil({ class: name, ttftTargetMs, deadlineMs, request }: Resolved, sinceMs: number, maxWaitMs: number): number {
  if (!PATIENT.includes(name) || ttftTargetMs === Number.POSITIVE_INFINITY || !request.stream || request.exclude.length > 0) return sinceMs;
  return sinceMs + PATIENCE_SHARE * Math.min(ttftTargetMs, deadlineMs, maxWaitMs);
}
