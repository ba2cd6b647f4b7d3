import { type AttemptEnded, type DecideRequest, Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { ExperimentWatch } from "./experiment-watch.ts";
import { type Assignment, unitOf } from "./experiments.ts";
import type { Holding } from "./holding.ts";
import type { PolicySnapshot } from "./snapshot.ts";

/** An attempt's end counts for the arm that its backend was chosen for. */
export function observeEnd(
  watch: ExperimentWatch,
  { experiments }: PolicySnapshot,
  holding: Holding,
  backend: string,
  ended: AttemptEnded,
): void {
  const { decision, request } = holding.evidence;
  // Neither a judge's answers nor what the ingress served without this decision are traffic of an arm.
  if (request.role === "judge" || holding.unheard) return;
  if (decision.experiment === "" || decision.result.case !== "allow") return;
  if (!decision.result.value.candidates.some((candidate) => candidate.backend === backend)) return;
  const compiled = experiments.get(decision.experiment);
  if (compiled === undefined) return;
  // Nobody waits for copies: they are compared apart.
  if (request.role === "shadow") return watch.copied(compiled.experiment, decision.arm, ended);
  const { sums } = holding;
  sums.costNanoUsd += Number(ended.costNanoUsd);
  if (ended.outcome === Outcome.FAILED) sums.failed++;
  if (ended.outcome === Outcome.OK) {
    sums.answered = true;
    sums.answerTokens = ended.outputTokens;
  }
  watch.ended(compiled.experiment, decision.arm, ended);
}

/** A request that got its whole answer counts with what it cost; hedges and failed attempts included. */
export function observeDone(watch: ExperimentWatch, { experiments }: PolicySnapshot, { evidence, sums }: Holding): void {
  if (!sums.answered) return;
  const compiled = experiments.get(evidence.decision.experiment);
  if (compiled !== undefined) watch.requestDone(compiled.experiment, evidence.decision.arm, sums);
}

/** A unit belongs to the arm its hash says, whoever served it; what was forced, copied or decided before does not count. */
export function countUnit(watch: ExperimentWatch, { experiment, arm }: Assignment, request: DecideRequest): void {
  if (request.role !== "" || request.forcedArm !== "" || request.exclude.length > 0) return;
  const unit = unitOf(request, experiment.experiment.unit);
  if (unit !== "") watch.assigned(experiment.experiment, arm.name, unit);
}
