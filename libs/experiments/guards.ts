import {
  exceedsRatio,
  type Looks,
  type Moments,
  noLooks,
  oneSidedSequence,
  SAMPLES_MIN,
  takeLook,
  TUNED_FOR,
} from "#libs/statistics/index.ts";
import type { Experiment } from "./experiment.ts";
import type { MetricName } from "./metrics.ts";
import { momentsOf, type Observations } from "./observations.ts";

/** What can be guarded, in the order of looking. */
export const GUARD_NAMES = ["error_rate", "ttft", "cost", "quality"] as const;

/** A guard's name. */
export type GuardName = (typeof GUARD_NAMES)[number];

/**
 * Chance that a guard stops an arm that keeps within all margins, over the experiment's whole life: 5 %. Errors are rare and so need
 * nearly all of it, and spend it on planned looks (FIRST_WINDOW_ALPHA and LATER_WINDOWS_ALPHA, 0.046); the rest is for confidence
 * sequences, one per guard, which catch what is gross at any moment.
 */
const SEQUENCE_ALPHA = 0.001;

/** An arm is analysed when it has this many outcomes more, and at most this often, ms. */
export const ANALYSE_EVERY = 25;
export const ANALYSE_INTERVAL_MS = 1_000;

/** Analyses in a row in which a confidence sequence must be beyond its margin. */
const BREACHES = 2;

/** What is remembered of an arm from one analysis to the next. Plain JSON. */
export interface GuardMemory {
  readonly looks: Looks;
  /** Analyses in a row beyond the margin, by guard. */
  readonly beyond: Readonly<Partial<Record<GuardName, number>>>;
  readonly outcomes: number;
  readonly analysedAtMs: number;
}

/** Where one guard stands. */
export interface GuardStanding {
  readonly guard: GuardName;
  readonly margin: number;
  /** Waiting: too few samples. Within: by the estimate. Inconclusive: the estimate is beyond, but it may be chance. */
  readonly status: "waiting" | "within" | "inconclusive" | "breached";
  /** Why, in words; only when breached. */
  readonly reason: string;
}

/** Before the first analysis. */
export function noGuardMemory(): GuardMemory {
  return { looks: noLooks(), beyond: {}, outcomes: 0, analysedAtMs: 0 };
}

/** Whether an arm has news enough to be analysed. */
export function isDue(memory: GuardMemory, seen: Observations, arm: string, nowMs: number): boolean {
  const { count } = momentsOf(seen, arm, "error");
  return count - memory.outcomes >= ANALYSE_EVERY && nowMs - memory.analysedAtMs >= ANALYSE_INTERVAL_MS;
}

/** One analysis of an arm against its control. */
export function analyseArm(
  experiment: Experiment,
  seen: Observations,
  arm: string,
  before: GuardMemory,
  nowMs: number,
): { readonly memory: GuardMemory; readonly guards: readonly GuardStanding[] } {
  const guards: GuardStanding[] = [];
  const beyond: Partial<Record<GuardName, number>> = {};
  let { looks } = before;
  for (const guard of GUARD_NAMES) {
    const margin = marginOf(experiment, guard);
    if (margin === undefined) continue;
    const [control, treatment] = momentsFor(experiment, seen, arm, guard);
    const certain = exceeds(guard, control, treatment, margin);
    beyond[guard] = certain ? (before.beyond[guard] ?? 0) + 1 : 0;
    let breached = beyond[guard] >= BREACHES;
    if (guard === "error_rate") {
      const look = takeLook(looks, control, treatment, margin);
      looks = look.looks;
      breached ||= look.breach;
    }
    guards.push(standingOf(guard, margin, control, treatment, breached));
  }
  const { count } = momentsOf(seen, arm, "error");
  return { memory: { looks, beyond, outcomes: count, analysedAtMs: nowMs }, guards };
}

/** Where the guards stand by the estimates alone, for showing: looking changes nothing. */
export function guardStandings(experiment: Experiment, seen: Observations, arm: string): GuardStanding[] {
  return GUARD_NAMES.flatMap((guard) => {
    const margin = marginOf(experiment, guard);
    if (margin === undefined) return [];
    const [control, treatment] = momentsFor(experiment, seen, arm, guard);
    return [standingOf(guard, margin, control, treatment, exceeds(guard, control, treatment, margin))];
  });
}

/** The configured margin, quality's as the drop that is allowed. */
function marginOf({ guards }: Experiment, guard: GuardName): number | undefined {
  switch (guard) {
    case "error_rate":
      return guards.errorRate;
    case "ttft":
      return guards.ttft;
    case "cost":
      return guards.cost;
    case "quality":
      return guards.quality === undefined ? undefined : Math.abs(guards.quality);
  }
}

const METRIC_OF: Readonly<Record<GuardName, MetricName>> = { error_rate: "error", ttft: "ttft", cost: "cost", quality: "quality" };

/** Control and treatment such that a higher treatment is worse. */
function momentsFor(experiment: Experiment, seen: Observations, arm: string, guard: GuardName): readonly [Moments, Moments] {
  const metric = METRIC_OF[guard];
  const control = momentsOf(seen, experiment.control, metric);
  const treatment = momentsOf(seen, arm, metric);
  return guard === "quality" ? [lossOf(control), lossOf(treatment)] : [control, treatment];
}

function lossOf({ count, mean, m2 }: Moments): Moments {
  return { count, mean: -mean, m2 };
}

function exceeds(guard: GuardName, control: Moments, treatment: Moments, margin: number): boolean {
  if (control.count < SAMPLES_MIN.guard || treatment.count < SAMPLES_MIN.guard) return false;
  if (guard === "cost") return exceedsRatio(control, treatment, margin, SEQUENCE_ALPHA, TUNED_FOR.guard);
  const interval = oneSidedSequence(control, treatment, SEQUENCE_ALPHA, TUNED_FOR.guard);
  return interval !== undefined && interval.lower > (guard === "ttft" ? Math.log1p(margin) : margin);
}

function standingOf(guard: GuardName, margin: number, control: Moments, treatment: Moments, breached: boolean): GuardStanding {
  if (breached) return { guard, margin, status: "breached", reason: reasonOf(guard, control, treatment) };
  const few = control.count < SAMPLES_MIN.guard || treatment.count < SAMPLES_MIN.guard;
  if (few) return { guard, margin, status: "waiting", reason: "" };
  return { guard, margin, status: estimateOf(guard, control, treatment) > margin ? "inconclusive" : "within", reason: "" };
}

function estimateOf(guard: GuardName, control: Moments, treatment: Moments): number {
  if (guard === "cost") return control.mean > 0 ? treatment.mean / control.mean - 1 : 0;
  const difference = treatment.mean - control.mean;
  return guard === "ttft" ? Math.expm1(difference) : difference;
}

function reasonOf(guard: GuardName, control: Moments, treatment: Moments): string {
  const by = percent(estimateOf(guard, control, treatment));
  switch (guard) {
    case "error_rate":
      return `error rate ${percent(treatment.mean)}, control ${percent(control.mean)}`;
    case "ttft":
      return `time to first token ${by} above control`;
    case "cost":
      return `cost per request ${by} above control`;
    case "quality":
      return `quality ${(-treatment.mean).toFixed(3)}, control ${(-control.mean).toFixed(3)}`;
  }
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
