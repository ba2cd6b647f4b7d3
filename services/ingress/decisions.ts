import type { Decision } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { changedIntake } from "./experiments/changed-intake.ts";
import { isReviewed } from "./experiments/review.ts";
import type { Intake } from "./intake.ts";
import type { RequestSummary } from "./summary.ts";

/** Looks at requests in experiments from the side: it never holds one up. */
export interface Witness {
  /** A request was allowed and is about to be sent; undefined = nothing more about it matters. */
  attend(intake: Intake, decision: Decision): Attendance | undefined;
}

/** One request that is looked at. */
export interface Attendance {
  /** Whether what the answer says matters, or only how it ended. */
  readonly wantsContent: boolean;
  /** The client has its answer, or its error. */
  finished(summary: RequestSummary): void;
}

/** What attempts are made under. */
interface Current {
  readonly decision: Decision;
  /** The request as its arm sends it. */
  readonly intake: Intake;
  /** Whether the answer is collected (true), looked at for signs (false), or neither. */
  readonly collects: boolean | undefined;
}

const EMPTY = new Uint8Array(0);

/** The decisions of one request: the first, which its records show, and the last that allowed it, which attempts are made under. */
export class Decisions {
  readonly #intake: Intake;
  readonly #witness: Witness | undefined;
  #first: Decision | undefined;
  #current: Current | undefined;
  #attendance: Attendance | undefined;

  constructor(intake: Intake, witness: Witness | undefined) {
    this.#intake = intake;
    this.#witness = witness;
  }

  /** Undefined before there is one. */
  get first(): Decision | undefined {
    return this.#first;
  }

  /** The decision attempts are made under, and the request as its arm sends it. Only after {@link allowed}. */
  get current(): Current {
    return this.#current!;
  }

  /** Nobody may serve it (any more). */
  denied(decision: Decision): void {
    this.#first ??= decision;
  }

  /** The request may go. Throws INTERNAL where its arm's change cannot be made. */
  allowed(decision: Decision): void {
    if (this.#first === undefined) this.#attendance = this.#witness?.attend(this.#intake, decision);
    this.#first ??= decision;
    const intake = changedIntake(this.#intake, decision);
    const collects = decision.experiment === "" ? undefined : this.#attendance?.wantsContent === true || isReviewed(intake);
    this.#current = { decision, intake, collects };
  }

  /** No further attempt can need the bodies. */
  dropBodies(): void {
    this.#intake.body = EMPTY;
    if (this.#current !== undefined) this.#current.intake.body = EMPTY;
  }

  /** The request is over and all its attempts have ended. */
  finished(summary: RequestSummary): void {
    this.#attendance?.finished(summary);
  }
}
