import { addSample, emptyMoments, type Moments } from "#libs/statistics/index.ts";
import type { Experiment } from "./experiment.ts";
import type { MetricName } from "./metrics.ts";
import type { Observations } from "./observations.ts";

/** An experiment with two arms half and half, for tests. */
export function twoArms(parts: Partial<Experiment> = {}): Experiment {
  return {
    name: "e",
    revision: 1,
    state: "running",
    model: "chat",
    unit: "user",
    layer: "chat",
    control: "control",
    arms: [
      { name: "control", weight: 0.5, ranges: [[0, 5_000]] },
      { name: "b", weight: 0.5, ranges: [[5_000, 10_000]], backends: ["gpu-b"] },
    ],
    guards: { errorRate: 0.005, ttft: 0.1, cost: undefined, quality: undefined, action: "rollback" },
    basis: "",
    history: [],
    ...parts,
  };
}

/** Observations that grow by samples. */
export class Sampled {
  readonly #arms = new Map<string, { units: number; metrics: Map<MetricName, Moments> }>();

  get observations(): Observations {
    return this.#arms;
  }

  add(arm: string, metric: MetricName, value: number): void {
    this.#of(arm, metric, (moments) => addSample(moments, value));
  }

  /** Counts units. */
  assign(arm: string, units = 1): void {
    this.#of(arm, "error", () => {});
    this.#arms.get(arm)!.units += units;
  }

  #of(arm: string, metric: MetricName, apply: (moments: Moments) => void): void {
    const known = this.#arms.get(arm) ?? { units: 0, metrics: new Map<MetricName, Moments>() };
    this.#arms.set(arm, known);
    const moments = known.metrics.get(metric) ?? emptyMoments();
    known.metrics.set(metric, moments);
    apply(moments);
  }
}
