import { SRM_P } from "#libs/statistics/index.ts";
import type { Experiment } from "./experiment.ts";
import type { GuardStanding } from "./guards.ts";
import { momentsOf, type Observations } from "./observations.ts";

/** A step that has not seen enough after this many times its length will not: its plan waits for somebody to look. */
const PATIENCE_STEPS = 6;

/** What a plan's step began with. Plain JSON. */
export interface StepStart {
  readonly revision: number;
  readonly atMs: number;
  /** Outcomes by arm. */
  readonly outcomes: Readonly<Record<string, number>>;
}

/** What a plan does next. Share 1 = every unit: the arm is promoted. */
export type PlanMove =
  | { readonly kind: "wait" }
  | { readonly kind: "advance"; readonly arm: string; readonly share: number }
  | { readonly kind: "pause"; readonly reason: string };

const WAIT: PlanMove = { kind: "wait" };

/** The arm a plan is about: the one beside the control. */
export function plannedArm(experiment: Experiment): string | undefined {
  return experiment.arms.find(({ name }) => name !== experiment.control)?.name;
}

/** The start of the step in force, kept while its revision is. */
export function stepStart(experiment: Experiment, seen: Observations, before: StepStart | undefined, nowMs: number): StepStart {
  if (before?.revision === experiment.revision) return before;
  const outcomes = Object.fromEntries(experiment.arms.map(({ name }) => [name, momentsOf(seen, name, "error").count]));
  return { revision: experiment.revision, atMs: nowMs, outcomes };
}

/**
 * A step is done when it lasted long enough, both arms saw enough of it, and every guard is within its margin. A guard beyond its
 * margin that may be so by chance is inconclusive, and that is no pass: the plan pauses.
 */
export function planMove(
  experiment: Experiment,
  seen: Observations,
  guards: readonly GuardStanding[],
  sampleRatioP: number,
  start: StepStart,
  nowMs: number,
): PlanMove {
  const { plan } = experiment;
  const arm = plannedArm(experiment);
  if (plan === undefined || arm === undefined || experiment.state !== "running" || plan.step >= plan.steps.length) return WAIT;
  const ageMs = nowMs - start.atMs;
  if (ageMs < plan.stepMs) return WAIT;
  const least = Math.min(...experiment.arms.map(({ name }) => momentsOf(seen, name, "error").count - (start.outcomes[name] ?? 0)));
  if (least < plan.stepRequests) {
    if (ageMs < PATIENCE_STEPS * plan.stepMs) return WAIT;
    return { kind: "pause", reason: `step ${plan.step + 1}: only ${least} of ${plan.stepRequests} requests per arm` };
  }
  if (sampleRatioP < SRM_P) return { kind: "pause", reason: `step ${plan.step + 1}: the assignment does not follow the weights` };
  const waiting = guards.find(({ status }) => status === "waiting");
  if (waiting !== undefined) {
    if (ageMs < PATIENCE_STEPS * plan.stepMs) return WAIT;
    return { kind: "pause", reason: `step ${plan.step + 1}: too few samples for ${waiting.guard}` };
  }
  const open = guards.find(({ status }) => status !== "within");
  if (open !== undefined) return { kind: "pause", reason: `step ${plan.step + 1}: ${open.guard} is inconclusive` };
  return { kind: "advance", arm, share: plan.steps[plan.step + 1] ?? 1 };
}
