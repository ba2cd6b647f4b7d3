export { experimentOfUnit } from "./assign.ts";
export { type ArmValues, compareArms, type MetricValue, sampleRatio, shadowName } from "./compare.ts";
export {
  CONTROL_ARM,
  controlOf,
  type Experiment,
  type ExperimentArm,
  type ExperimentGuards,
  experimentOf,
  type ExperimentStep,
  type RolloutPlan,
  STEP_MS,
  STEP_REQUESTS,
} from "./experiment.ts";
export {
  analyseArm,
  ANALYSE_EVERY,
  ANALYSE_INTERVAL_MS,
  GUARD_NAMES,
  type GuardMemory,
  type GuardName,
  type GuardStanding,
  guardStandings,
  isDue,
  noGuardMemory,
} from "./guards.ts";
export { isMetric, METRIC_NAMES, type MetricName, METRICS } from "./metrics.ts";
export {
  type ArmObservations,
  mergeObservations,
  momentsOf,
  type Observations,
  runOf,
  type SourceObservations,
  storedObservations,
} from "./observations.ts";
export { plannedArm, type PlanMove, planMove, type StepStart, stepStart } from "./plan.ts";
export { type ChangeEffect, changeEffect, NO_EFFECT } from "./request-change.ts";
export { blockDigest, decodeExperiment, encodeExperiment, experimentsInForce } from "./stored.ts";
export {
  decodeModelHistory,
  encodeModelHistory,
  type ModelHistory,
  type ModelRevision,
  type ModelVersion,
  noteFileVersion,
  takeBack,
  versionOf,
  withModelRevisions,
} from "./model-revisions.ts";
