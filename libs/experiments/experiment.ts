import type { ExperimentConfig } from "#libs/config/model.ts";
import { type BucketRange, extendRanges } from "#libs/statistics/index.ts";

/** One side of an experiment. */
export interface ExperimentArm {
  readonly name: string;
  /** Share of the units, 0..1. */
  readonly weight: number;
  /** The units' buckets: kept with the revision, so that a change of weights moves only whom it must. */
  readonly ranges: readonly BucketRange[];
  /** Backends that may serve it; undefined = the model's candidates that no arm claims. */
  readonly backends?: readonly string[];
  /** What it changes in requests. */
  readonly request?: Readonly<Record<string, unknown>>;
}

/** One step in an experiment's life. */
export interface ExperimentStep {
  readonly revision: number;
  readonly action: "start" | "ramp" | "advance" | "pause" | "rollback" | "promote";
  readonly at_ms: number;
  readonly by: string;
  /** Why; empty where a person just did it. */
  readonly reason: string;
  /** Shares by arm from then on. */
  readonly weights: Readonly<Record<string, number>>;
}

/** Shares that the one arm beside the control goes through, each kept until its analysis says that nothing speaks against the next. */
export interface RolloutPlan {
  /** Shares, 0..1, rising. */
  readonly steps: readonly number[];
  /** Place among them; `steps.length` = done. */
  readonly step: number;
  /** How long a step lasts at least, ms. */
  readonly stepMs: number;
  /** Outcomes each arm must have in a step. */
  readonly stepRequests: number;
}

/** How long a step lasts at least and how much each arm must have seen of it, unless told otherwise. */
export const STEP_MS = 10 * 60_000;
export const STEP_REQUESTS = 200;

/** Margins of the guards as in the configuration. */
export type ExperimentGuards = ExperimentConfig["guards"];

/** An experiment in force: from the file, or a stored revision of it. Plain JSON. */
export interface Experiment {
  readonly name: string;
  /** Grows with every change. */
  readonly revision: number;
  /** Paused: shares stay as they are and its plan waits, until somebody ramps it or ends it. */
  readonly state: "running" | "paused" | "rolled_back" | "promoted";
  readonly model: string;
  readonly unit: ExperimentConfig["unit"];
  /** Experiments of one layer never share a unit. */
  readonly layer: string;
  /** Name of the arm the others are compared with. */
  readonly control: string;
  readonly arms: readonly ExperimentArm[];
  readonly guards: ExperimentGuards;
  /** How it rolls out by itself; undefined = people do it. */
  readonly plan?: RolloutPlan;
  /** Revision that its run began with: what was seen before does not count. */
  readonly startedRevision?: number;
  /** The file's block when this was stored (digest; empty = none): when that differs, the file wins again. */
  readonly basis: string;
  /** Latest last. */
  readonly history: readonly ExperimentStep[];
}

/** Name of the arm that is the control unless told otherwise. */
export const CONTROL_ARM = "control";

/** The arm others are compared with: the one named so, or the first that names no backends, or the first. */
export function controlOf(arms: readonly Pick<ExperimentArm, "name" | "backends">[]): string {
  const named = arms.find((arm) => arm.name === CONTROL_ARM) ?? arms.find((arm) => arm.backends === undefined) ?? arms[0];
  return named?.name ?? CONTROL_ARM;
}

/** The experiment as the file has it. */
export function experimentOf(config: ExperimentConfig, revision: number, basis: string): Experiment {
  const control = controlOf(Array.from(config.arms, ([name, { backends }]) => (backends === undefined ? { name } : { name, backends })));
  const planned = config.steps.length > 0 && config.arms.size === 2 ? config.steps[0] : undefined;
  const weights = Array.from(config.arms, ([name, { weight }]) => {
    if (planned === undefined) return { name, weight };
    return { name, weight: name === control ? 1 - planned : planned };
  });
  const ranges = extendRanges([], weights);
  const arms = Array.from(config.arms, ([name, arm], index): ExperimentArm => ({
    name,
    weight: weights[index]!.weight,
    ranges: ranges[index]!.ranges,
    ...(arm.backends === undefined ? {} : { backends: arm.backends }),
    ...(arm.request === undefined ? {} : { request: arm.request }),
  }));
  return {
    name: config.name,
    revision,
    state: "running",
    model: config.model,
    unit: config.unit,
    layer: config.layer,
    control,
    arms,
    guards: config.guards,
    ...(planned === undefined ? {} : { plan: { steps: config.steps, step: 0, stepMs: STEP_MS, stepRequests: STEP_REQUESTS } }),
    startedRevision: revision,
    basis,
    history: [],
  };
}
