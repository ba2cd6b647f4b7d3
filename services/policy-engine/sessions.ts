import { LiveMap } from "#libs/live/index.ts";
import type { AttemptReport, DecideRequest, DecideTicket, PolicyFallback, PolicySession, Preemption } from "#libs/peers/index.ts";
import type { Holding } from "./holding.ts";
import type { Follower } from "./followers.ts";
import type { Holder, LiveEngine } from "./live-engine.ts";
import type { Waiter } from "./scheduler.ts";
import { SignalboxError } from "#libs/errors/index.ts";

const NOTHING_TO_CANCEL = (): void => {};

/** One ingress's side of the engine. */
export class Session implements PolicySession, Holder {
  readonly holdings = new LiveMap<string, Holding>();
  readonly waiters = new LiveMap<string, Waiter>();
  readonly followers = new LiveMap<string, Follower>();
  readonly #engine: LiveEngine;
  readonly #onClose: (session: Session) => void;
  readonly #listeners: ((fallback: PolicyFallback) => void)[] = [];
  readonly #preemptionListeners: ((preemption: Preemption) => void)[] = [];
  #closed = false;

  constructor(engine: LiveEngine, onClose: (session: Session) => void) {
    this.#engine = engine;
    this.#onClose = onClose;
  }

  get connected(): boolean {
    return !this.#closed;
  }

  get fallback(): PolicyFallback {
    return this.#engine.fallback;
  }

  decide(request: DecideRequest): DecideTicket {
    if (this.#closed) {
      const lost = new SignalboxError("NO_BACKEND", "The policy engine's session is closed", { code: "policy_unavailable" });
      return { decision: Promise.reject(lost), cancel: NOTHING_TO_CANCEL };
    }
    const answer = this.#engine.decide(this, request);
    if ("decision" in answer) return { decision: answer.decision, cancel: NOTHING_TO_CANCEL };
    return { decision: answer.promise, cancel: () => this.#engine.cancel(this, request.decisionId) };
  }

  unheard(decisionId: string): void {
    const holding = this.holdings.get(decisionId);
    if (holding !== undefined) holding.unheard = true;
  }

  report(report: AttemptReport): void {
    if (!this.#closed) this.#engine.report(this, report);
  }

  onFallback(listener: (fallback: PolicyFallback) => void): void {
    this.#listeners.push(listener);
    listener(this.#engine.fallback);
  }

  onPreemption(listener: (preemption: Preemption) => void): void {
    this.#preemptionListeners.push(listener);
  }

  preempt(decisionId: string, attemptId: string): boolean {
    for (const listener of this.#preemptionListeners) listener({ $typeName: "signalbox.policy.v1.Preemption", decisionId, attemptId });
    return this.#preemptionListeners.length > 0;
  }

  /** Hands a new fallback to the listeners. */
  push(fallback: PolicyFallback): void {
    for (const listener of this.#listeners) listener(fallback);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#engine.release(this);
    this.#onClose(this);
  }
}
