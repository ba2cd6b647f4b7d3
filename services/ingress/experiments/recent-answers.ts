import type { Decision } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Attendance, Witness } from "../decisions.ts";
import type { Intake } from "../intake.ts";
import type { RequestSummary } from "../summary.ts";

/** Answers remembered: those of some minutes, until the ledger has long booked them. The oldest go first. */
const ANSWERS_MAX = 20_000;

/** The arm an answer came from. */
export interface AnswerArm {
  readonly experiment: string;
  readonly arm: string;
  readonly experimentRevision: bigint;
}

/** Answers in experiments that this process gave last, by tenant and response id: they can be scored before they are booked. */
export class RecentAnswers implements Witness {
  readonly #answers = new Map<string, AnswerArm>();
  readonly #attendance: Attendance = { wantsContent: false, finished: (summary) => this.#finished(summary) };

  attend(_intake: Intake, decision: Decision): Attendance | undefined {
    return decision.experiment === "" ? undefined : this.#attendance;
  }

  /** The arm of an answer a tenant got here; undefined = not known here (any more). */
  find(tenant: string, responseId: string): AnswerArm | undefined {
    return this.#answers.get(keyOf(tenant, responseId));
  }

  #finished({ intake, winner }: RequestSummary): void {
    const responseId = winner?.result?.responseId ?? "";
    if (winner === undefined || responseId === "") return;
    const { experiment, arm, experimentRevision } = winner.decision;
    if (experiment === "") return;
    const key = keyOf(intake.decide.tenant, responseId);
    this.#answers.delete(key);
    this.#answers.set(key, { experiment, arm, experimentRevision });
    if (this.#answers.size > ANSWERS_MAX) this.#answers.delete(this.#answers.keys().next().value!);
  }
}

function keyOf(tenant: string, responseId: string): string {
  return `${tenant}\u0000${responseId}`;
}
