export { experimentOfUnit } from "./assign.ts";
export {
  CONTROL_ARM,
  controlOf,
  type Experiment,
  type ExperimentArm,
  type ExperimentGuards,
  experimentOf,
  type ExperimentStep,
} from "./experiment.ts";
export { blockDigest, decodeExperiment, encodeExperiment, experimentsInForce } from "./stored.ts";
