import { addMoments, emptyMoments, type Moments } from "#libs/statistics/index.ts";
import type { Experiment } from "./experiment.ts";
import { isMetric, type MetricName } from "./metrics.ts";

/** What was seen of one arm. Absolute since its source began, so that sources add up and a lost message costs nothing. */
export interface ArmObservations {
  /** Units assigned under the revision in force. */
  readonly units: number;
  readonly metrics: ReadonlyMap<MetricName, Moments>;
}

/** By arm. */
export type Observations = ReadonlyMap<string, ArmObservations>;

/** What one source saw, as it is stored and sent: plain JSON. */
export interface SourceObservations {
  /** Revision that `units` counts under. */
  readonly revision: number;
  readonly arms: Readonly<Record<string, StoredArm>>;
}

interface StoredArm {
  readonly units: number;
  /** By metric: count, mean, sum of squared deviations. */
  readonly metrics: Readonly<Record<string, readonly [count: number, mean: number, m2: number]>>;
}

const NO_MOMENTS: Readonly<Moments> = emptyMoments();

/** Names a run of an experiment: from its start on. What was seen in another run does not count. */
export function runOf(experiment: Experiment): string {
  return `${experiment.basis}/${experiment.startedRevision ?? 0}`;
}

/** Moments of an arm's metric; empty where nothing was seen. */
export function momentsOf(observations: Observations, arm: string, metric: MetricName): Readonly<Moments> {
  return observations.get(arm)?.metrics.get(metric) ?? NO_MOMENTS;
}

/** Everything that all sources saw; units of other revisions than `revision` are left out. */
export function mergeObservations(sources: Iterable<SourceObservations>, revision: number): Observations {
  const merged = new Map<string, { units: number; metrics: Map<MetricName, Moments> }>();
  for (const source of sources) {
    for (const [name, seen] of Object.entries(source.arms)) {
      const arm = merged.get(name) ?? { units: 0, metrics: new Map<MetricName, Moments>() };
      merged.set(name, arm);
      if (source.revision === revision) arm.units += seen.units;
      for (const [metric, [count, mean, m2]] of Object.entries(seen.metrics)) {
        if (isMetric(metric)) arm.metrics.set(metric, addMoments(arm.metrics.get(metric) ?? NO_MOMENTS, { count, mean, m2 }));
      }
    }
  }
  return merged;
}

/** As it is stored. */
export function storedObservations(observations: Observations, revision: number): SourceObservations {
  const arms: Record<string, StoredArm> = {};
  for (const [name, { units, metrics }] of observations) {
    const stored: Record<string, readonly [number, number, number]> = {};
    for (const [metric, { count, mean, m2 }] of metrics) if (count > 0) stored[metric] = [count, mean, m2];
    arms[name] = { units, metrics: stored };
  }
  return { revision, arms };
}
