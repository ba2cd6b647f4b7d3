import type { AttemptReport, DecideRequest, Decision, PolicyFallback } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { DecisionRecord, ExplainRequest, Preemption } from "#gen/signalbox/policy/v1/policy_service_pb.ts";

export type { AttemptReport, DecideRequest, Decision, DecisionRecord, PolicyFallback, Preemption };

/** A decide in progress. */
export interface DecideTicket {
  /**
   * The decision; a denial is a decision too. Rejects with SignalboxError NO_BACKEND, code `policy_unavailable`, when no
   * engine answered or acknowledged within 25 ms (or the engine was lost): the caller then uses its fallback.
   * A plain value where it is known at once: `await` serves both.
   */
  readonly decision: Decision | Promise<Decision>;
  /** Withdraws a request that may still be queued. After the decision arrived it does nothing: report `requestDone` instead. */
  cancel(): void;
}

/** The policy engine, near or far. */
export interface PolicyPeer {
  /** Filter -> predict -> pick; what is chosen is reserved until the reports release it. */
  decide(request: DecideRequest): DecideTicket;
  /** Tells the engine that decided what became of it. Never blocks; a lost engine drops reports. */
  report(report: AttemptReport): void;
  /** Latest pushed fallback, or undefined before the first. */
  readonly fallback: PolicyFallback | undefined;
  /** Whether an engine is connected. */
  readonly connected: boolean;
  /** Calls `listener` when an attempt should yield to a better class; one that has content, or ended, need not. */
  onPreemption(listener: (preemption: Preemption) => void): void;
}

/** Explanations, for the admin surface. Separate from the hot path. */
export interface ExplainPeer {
  /** The record, or undefined when it is gone or never was. */
  explain(request: ExplainRequest): Promise<DecisionRecord | undefined>;
}

/** One ingress's side of an engine: what it holds is released by `close`. */
export interface PolicySession extends PolicyPeer {
  /** Calls `listener` with the current fallback at once (if any) and with every later one. */
  onFallback(listener: (fallback: PolicyFallback) => void): void;
  /**
   * The decision on a request came too late, and the ingress went on by its fallback: what is reported from here on says what runs
   * where, and counts for no experiment. Asked of an engine by what serves it to others.
   */
  unheard?(decisionId: string): void;
  /** Releases everything held for this ingress. Idempotent. */
  close(): void;
}

/** The policy engine as its own process sees it: what `libs/rpc` serves and `deploy` hands to an ingress in the same process. */
export interface PolicyHost extends ExplainPeer {
  /** `ingressId` names the ingress process; two sessions with one id are two sessions. */
  openSession(ingressId: string): PolicySession;
  /** Calls `listener` once when the engine starts draining. */
  onDraining(listener: () => void): void;
}
