import { confidenceSequence, type Interval, type Moments, ratioSequence, sampleRatioP, TUNED_FOR } from "#libs/statistics/index.ts";
import type { Experiment } from "./experiment.ts";
import { METRIC_NAMES, METRICS, type MetricName } from "./metrics.ts";
import { momentsOf, type Observations } from "./observations.ts";

/** Intervals that are shown hold with 95 %, at every moment. */
const SHOWN_ALPHA = 0.05;

/** One metric of one arm, in its own unit; difference and bounds are relative for logs and amounts. */
export interface MetricValue {
  readonly metric: MetricName;
  readonly count: number;
  readonly mean: number;
  /** Against the control; undefined for the control itself and below two samples an arm. */
  readonly interval: Interval | undefined;
}

/** One arm beside its control. */
export interface ArmValues {
  readonly arm: string;
  readonly units: number;
  readonly metrics: readonly MetricValue[];
}

/** Name under which an arm's shadow copies are observed: an arm of their own, which no unit has and no guard looks at. */
export function shadowName(arm: string): string {
  return `shadow:${arm}`;
}

/** All arms side by side, in the experiment's order; behind them the copies of those that got any. */
export function compareArms(experiment: Experiment, seen: Observations): ArmValues[] {
  const names = experiment.arms.map(({ name }) => name);
  const copies = names.map(shadowName).filter((name) => seen.has(name));
  return [...names, ...copies].map((name) => ({
    arm: name,
    units: seen.get(name)?.units ?? 0,
    metrics: METRIC_NAMES.filter((metric) => momentsOf(seen, name, metric).count > 0).map((metric) =>
      valueOf(experiment, seen, name, metric),
    ),
  }));
}

function valueOf(experiment: Experiment, seen: Observations, arm: string, metric: MetricName): MetricValue {
  const moments = momentsOf(seen, arm, metric);
  const mean = METRICS[metric] === "log" ? Math.exp(moments.mean) : moments.mean;
  const interval = arm === experiment.control ? undefined : differenceOf(metric, momentsOf(seen, experiment.control, metric), moments);
  return { metric, count: moments.count, mean, interval };
}

function differenceOf(metric: MetricName, control: Moments, arm: Moments): Interval | undefined {
  switch (METRICS[metric]) {
    case "share":
    case "score": {
      const interval = confidenceSequence(control, arm, SHOWN_ALPHA, TUNED_FOR.guard);
      return interval && { ...interval, lower: Math.max(-1, interval.lower), upper: Math.min(1, interval.upper) };
    }
    case "amount":
      return ratioSequence(control, arm, SHOWN_ALPHA, TUNED_FOR.guard);
    case "log": {
      const interval = confidenceSequence(control, arm, SHOWN_ALPHA, TUNED_FOR.guard);
      return (
        interval && {
          difference: Math.expm1(interval.difference),
          lower: Math.expm1(interval.lower),
          upper: Math.expm1(interval.upper),
        }
      );
    }
  }
}

/**
 * Chance of units this far from the weights by luck alone. One unit may have been counted by every engine, so the counts are taken to
 * be worth a part of themselves: the check would rather miss a small skew than cry over a loyal user.
 */
export function sampleRatio(experiment: Experiment, seen: Observations, engines: number): number {
  const share = 1 / Math.max(1, engines);
  return sampleRatioP(
    experiment.arms.map(({ name }) => (seen.get(name)?.units ?? 0) * share),
    experiment.arms.map(({ weight }) => weight),
  );
}
