import type { AttemptReport, DecideRequest, DecideTicket, PolicyFallback, PolicySession } from "#libs/peers/index.ts";
import type { Holding } from "./holdings.ts";
import type { Core, Holder } from "./core.ts";
import type { Waiter } from "./scheduler.ts";
import { SignalboxError } from "#libs/errors/index.ts";

const NOTHING_TO_CANCEL = (): void => {};

/** One ingress's side of the engine. */
export class Session implements PolicySession, Holder {
  readonly holdings = new Map<string, Holding>();
  readonly waiters = new Map<string, Waiter>();
  readonly #core: Core;
  readonly #onClose: (session: Session) => void;
  readonly #listeners: ((fallback: PolicyFallback) => void)[] = [];
  #closed = false;

  constructor(core: Core, onClose: (session: Session) => void) {
    this.#core = core;
    this.#onClose = onClose;
  }

  get connected(): boolean {
    return !this.#closed;
  }

  get fallback(): PolicyFallback {
    return this.#core.fallback;
  }

  decide(request: DecideRequest): DecideTicket {
    if (this.#closed) {
      const lost = new SignalboxError("NO_BACKEND", "The policy engine's session is closed", { code: "policy_unavailable" });
      return { decision: Promise.reject(lost), cancel: NOTHING_TO_CANCEL };
    }
    const answer = this.#core.decide(this, request);
    if ("decision" in answer) return { decision: answer.decision, cancel: NOTHING_TO_CANCEL };
    return { decision: answer.promise, cancel: () => this.#core.cancel(this, request.decisionId) };
  }

  report(report: AttemptReport): void {
    if (!this.#closed) this.#core.report(this, report);
  }

  onFallback(listener: (fallback: PolicyFallback) => void): void {
    this.#listeners.push(listener);
    listener(this.#core.fallback);
  }

  /** Hands a new fallback to the listeners. */
  push(fallback: PolicyFallback): void {
    for (const listener of this.#listeners) listener(fallback);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#core.release(this);
    this.#onClose(this);
  }
}
