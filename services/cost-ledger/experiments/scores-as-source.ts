import type { Experiment, SourceObservations } from "#libs/experiments/index.ts";
import { addMoments, emptyMoments, type Moments } from "#libs/statistics/index.ts";
import type { ScoreSums } from "../scores/answers.ts";

/** The metric of scores that quality is judged by; others are kept and not compared. */
const QUALITY = "quality";

/** Scores as one more source of observations: those given to answers of this run. */
export function scoresAsSource(experiment: Experiment, sums: readonly ScoreSums[]): SourceObservations {
  const since = BigInt(experiment.startedRevision ?? 0);
  const byArm = new Map<string, Moments>();
  for (const { arm, revision, metric, count, sum, sumOfSquares } of sums) {
    if (metric !== QUALITY || revision < since || count === 0) continue;
    const mean = sum / count;
    const moments = { count, mean, m2: Math.max(0, sumOfSquares - sum * mean) };
    byArm.set(arm, addMoments(byArm.get(arm) ?? emptyMoments(), moments));
  }
  const arms = Array.from(byArm, ([arm, { count, mean, m2 }]) => [arm, { units: 0, metrics: { quality: [count, mean, m2] as const } }]);
  return { revision: 0, arms: Object.fromEntries(arms) as SourceObservations["arms"] };
}
