import type { DecideRequest, Decision } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { DecideTicket } from "#libs/peers/index.ts";
import type { DispatchDeps } from "./dispatch-deps.ts";
import { internalError } from "./failures.ts";
import { decideByFallback } from "./fallback.ts";
import type { Intake } from "./intake.ts";
import { requestDoneReport } from "./reports.ts";

/** What becomes of a question to the policy engine: exactly one of both, unless it is withdrawn. */
export interface DeciderOwner {
  answered(decision: Decision): void;
  /** The request cannot go on. */
  broke(error: SignalboxError): void;
}

/** Asks the policy engine for one request, and its pushed fallback where no engine answers (decision 9). One question at a time. */
export class Decider {
  readonly #deps: DispatchDeps;
  readonly #intake: Intake;
  readonly #owner: DeciderOwner;
  #ticket: DecideTicket | undefined;
  /** Whether the latest question left somebody out. */
  excluding = false;

  constructor(deps: DispatchDeps, intake: Intake, owner: DeciderOwner) {
    this.#deps = deps;
    this.#intake = intake;
    this.#owner = owner;
  }

  /** Asks for candidates other than `exclude` that also meet `needs`; `remainingMs` until the deadline, Infinity = none. */
  ask(exclude: string[], remainingMs: number, needs: number): void {
    const { decide } = this.#intake;
    this.excluding = exclude.length > 0;
    const deadlineMs = Number.isFinite(remainingMs) ? remainingMs : 0;
    const request: DecideRequest =
      exclude.length === 0 && needs === 0 ? decide : { ...decide, exclude, deadlineMs, needs: decide.needs | needs };
    let ticket: DecideTicket;
    try {
      ticket = this.#deps.policy.decide(request);
    } catch (error) {
      return this.#failed(error, request);
    }
    const { decision } = ticket;
    if (!(decision instanceof Promise)) return this.#owner.answered(decision);
    this.#ticket = ticket;
    const asked = decision.then(
      (value) => {
        // A decision that comes after the withdrawal reserved something: give it back.
        if (!this.#take(ticket)) this.#deps.policy.report(requestDoneReport(decide.decisionId));
        else this.#owner.answered(value);
      },
      (error: unknown) => {
        if (this.#take(ticket)) this.#failed(error, request);
      },
    );
    // A mistake of ours while a decision is taken up ends this request, not the process.
    asked.catch((cause: unknown) => this.#owner.broke(internalError(cause)));
  }

  /** Takes the question back; no answer will be handed on. */
  withdraw(): void {
    this.#ticket?.cancel();
    this.#ticket = undefined;
  }

  #take(ticket: DecideTicket): boolean {
    if (this.#ticket !== ticket) return false;
    this.#ticket = undefined;
    return true;
  }

  #failed(error: unknown, request: DecideRequest): void {
    const { fallback } = this.#deps.policy;
    if (error instanceof SignalboxError && error.code !== "policy_unavailable") return this.#owner.broke(error);
    if (fallback !== undefined) return this.#owner.answered(decideByFallback(request, fallback, this.#deps.fallbackConstraints));
    this.#deps.logger.warn(
      { err: error, request_id: this.#intake.requestId },
      "no policy engine answers and no fallback was ever received",
    );
    this.#owner.broke(new SignalboxError("NO_BACKEND", "No policy engine answers, and none has sent a fallback yet."));
  }
}
