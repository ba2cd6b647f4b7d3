import type { DecideRequest } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { BreakerTransition } from "#libs/resilience/index.ts";
import type { Evidence } from "./engine.ts";
import type { Leader } from "./leaders.ts";
import type { TtftBasis } from "./learn.ts";
import type { Pace } from "./pace-guard.ts";
import type { RequestSums } from "./request-sums.ts";
import type { SchedulingClass } from "./resolve.ts";
import type { CompiledBackend } from "./snapshot.ts";
import type { BackendState } from "./state.ts";

/** What one attempt (or the reservation for it) takes up at a backend. */
export interface Hold {
  /** Attempt id; empty until the attempt starts. */
  attemptId: string;
  readonly backend: BackendState;
  readonly compiled: CompiledBackend;
  readonly model: string;
  readonly tenant: string;
  readonly sinceMs: number;
  /** Of an upstream call, 0..1. */
  readonly share: number;
  readonly basis: TtftBasis;
  trial: boolean;
  prefillTokens: number;
  contextTokens: number;
  outputTokens: number;
  gapSeen: boolean;
  /** What others may wait for while its prompt is computed. */
  leader: Leader | undefined;
  /** Whether it may be asked to yield; not once it has been, or has content. */
  mayYield: boolean;
  /** Undefined where nobody watches the answer come. */
  readonly pace: Pace | undefined;
  /** Where it stands among the live ones. */
  slot: number;
  readonly holding: Holding;
}

/** One decided request. */
export interface Holding {
  readonly request: DecideRequest;
  /** Model name, aliases resolved. */
  readonly model: string;
  readonly class: SchedulingClass;
  readonly uncachedTokens: number;
  /** Output tokens predicted for it. */
  readonly expectedOutput: number;
  /** What the latest decision on it was made from. */
  evidence: Evidence;
  /** The latest decision came too late: the ingress went on by its fallback, and what follows is no outcome of an arm. */
  unheard: boolean;
  /** When it was last heard of, ms. */
  touchedMs: number;
  /** What its attempts came to so far, while they count for an experiment's arm. */
  readonly sums: RequestSums;
  /** Room kept for the next attempt until it starts. */
  reserved: Hold | undefined;
  /** Attempts under way: one, or two with a hedge. */
  readonly attempts: Hold[];
  /** Times an attempt of it was asked to yield. */
  preemptions: number;
  readonly holder: Preemptible;
}

/** Who can be asked to take an attempt back. */
export interface Preemptible {
  /** False when nobody listens. */
  preempt(decisionId: string, attemptId: string): boolean;
}

/** What the rest of the engine wants to hear of. */
export interface HoldingsListener {
  /** Room came free at a backend. */
  onRelease(backend: BackendState): void;
  /** A breaker changed its state. */
  onBreaker(backend: BackendState, transition: BreakerTransition): void;
  /** An answer's length is known. */
  onAnswer(holding: Holding, outputTokens: number): void;
}
