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
  readonly action: "start" | "ramp" | "rollback" | "promote";
  readonly at_ms: number;
  readonly by: string;
  /** Why; empty where a person just did it. */
  readonly reason: string;
  /** Shares by arm from then on. */
  readonly weights: Readonly<Record<string, number>>;
}

/** Margins of the guards as in the configuration. */
export type ExperimentGuards = ExperimentConfig["guards"];

/** An experiment in force: from the file, or a stored revision of it. Plain JSON. */
export interface Experiment {
  readonly name: string;
  /** Grows with every change. */
  readonly revision: number;
  readonly state: "running" | "rolled_back" | "promoted";
  readonly model: string;
  readonly unit: ExperimentConfig["unit"];
  /** Experiments of one layer never share a unit. */
  readonly layer: string;
  /** Name of the arm the others are compared with. */
  readonly control: string;
  readonly arms: readonly ExperimentArm[];
  readonly guards: ExperimentGuards;
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
  const weights = Array.from(config.arms, ([name, { weight }]) => ({ name, weight }));
  const ranges = extendRanges([], weights);
  const arms = Array.from(config.arms, ([name, arm], index): ExperimentArm => ({
    name,
    weight: arm.weight,
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
    control: controlOf(arms),
    arms,
    guards: config.guards,
    basis,
    history: [],
  };
}
