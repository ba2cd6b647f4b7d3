import { create } from "@bufbuild/protobuf";
import {
  type ControlState,
  type ExperimentArm as ArmMessage,
  type ExperimentRecord,
  ExperimentRecordSchema,
  type PromoteExperimentRequest,
  type RollbackExperimentRequest,
  type SetExperimentWeightsRequest,
  type StartExperimentRequest,
} from "#gen/signalbox/control/v1/control_service_pb.ts";
import type { Config } from "#libs/config/model.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import {
  blockDigest,
  CONTROL_ARM,
  controlOf,
  encodeExperiment,
  type Experiment,
  type ExperimentArm,
  experimentsInForce,
  type ExperimentStep,
} from "#libs/experiments/index.ts";
import { extendRanges } from "#libs/statistics/index.ts";

/** Bounds of what is stored, so that the whole control state stays one small message. */
const EXPERIMENTS_MAX = 100;
const ARMS_MAX = 10;
const HISTORY_MAX = 50;
const TEXT_MAX = 200;

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const UNITS: ReadonlySet<string> = new Set(["user", "tenant", "conversation", "request"]);

/** Shares that sum to 1 within this do. */
const WEIGHT_SLACK = 1e-6;

/** Guards of an experiment started without any: half a point of errors and a tenth of the time to first token. */
const DEFAULT_GUARDS = { errorRate: 0.005, ttft: 0.1, cost: undefined, quality: undefined, action: "rollback" } as const;

/** Where a change applies. */
export interface ExperimentScene {
  readonly config: Config;
  readonly nowMs: number;
}

/** Starts an experiment in `state`; one that runs must be rolled back or promoted first. */
export function startExperiment(state: ControlState, scene: ExperimentScene, request: StartExperimentRequest): Experiment {
  const { config } = scene;
  if (!NAME.test(request.name)) throw refusal("name", "name: letters, digits, dot, dash and underscore, at most 63");
  const inForce = experimentsInForce(config, state.experiments);
  const before = inForce.get(request.name);
  if (before?.state === "running") throw refusal("name", `experiment ${request.name} runs already: ramp it, or roll it back first`);
  if (before === undefined && inForce.size >= EXPERIMENTS_MAX) throw refusal("name", `at most ${EXPERIMENTS_MAX} experiments`);
  const model = modelOf(config, request.model);
  const unit = request.unit === "" ? "user" : request.unit;
  if (!isUnit(unit)) throw refusal("unit", "unit: user, tenant, conversation or request");
  const arms = withControl(request.arms, config);
  const block = config.experiments.get(request.name);
  const next: Experiment = {
    name: request.name,
    revision: before?.revision ?? 0,
    state: "running",
    model,
    unit,
    layer: request.layer === "" ? model : request.layer.slice(0, TEXT_MAX),
    control: controlOf(arms),
    arms: before?.arms ?? [],
    guards: block?.guards ?? before?.guards ?? DEFAULT_GUARDS,
    basis: blockDigest(block),
    history: before?.history ?? [],
  };
  return store(state, scene, next, arms, { action: "start", by: request.by, reason: "" });
}

/** New shares; what the named arms leave goes to the control arm. */
export function setExperimentWeights(state: ControlState, scene: ExperimentScene, request: SetExperimentWeightsRequest): Experiment {
  const before = find(state, scene, request.name);
  for (const name of Object.keys(request.weights)) {
    if (!before.arms.some((arm) => arm.name === name)) throw noArm(before, name);
  }
  const others = before.arms
    .filter(({ name }) => name !== before.control)
    .map((arm) => ({ ...arm, weight: request.weights[arm.name] ?? arm.weight }));
  const left = 1 - others.reduce((sum, arm) => sum + arm.weight, 0);
  const given = request.weights[before.control];
  if (given !== undefined && Math.abs(given - left) > WEIGHT_SLACK) throw refusal("weights", "the shares of all arms must sum to 100%");
  const arms = before.arms.map((arm) => others.find(({ name }) => name === arm.name) ?? { ...arm, weight: clean(left) });
  checkWeights(arms);
  return store(state, scene, { ...before, state: "running" }, arms, { action: "ramp", by: request.by, reason: "" });
}

/** Every unit to the control arm. Undefined when there is nothing to change. */
export function rollbackExperiment(
  state: ControlState,
  scene: ExperimentScene,
  request: RollbackExperimentRequest,
): Experiment | undefined {
  const before = find(state, scene, request.name);
  if (before.state === "rolled_back") return undefined;
  if (request.ifRevision > 0n && request.ifRevision !== BigInt(before.revision)) return undefined;
  const arms = only(before, before.control);
  return store(state, scene, { ...before, state: "rolled_back" }, arms, { action: "rollback", by: request.by, reason: request.reason });
}

/** Every unit to one arm. */
export function promoteExperiment(state: ControlState, scene: ExperimentScene, request: PromoteExperimentRequest): Experiment {
  const before = find(state, scene, request.name);
  if (!before.arms.some(({ name }) => name === request.arm)) throw noArm(before, request.arm);
  const arms = only(before, request.arm);
  return store(state, scene, { ...before, state: "promoted" }, arms, { action: "promote", by: request.by, reason: "" });
}

/** The experiment in force of that name. Throws ROUTE_UNKNOWN without one. */
export function find(state: ControlState, { config }: ExperimentScene, name: string): Experiment {
  const experiment = experimentsInForce(config, state.experiments).get(name);
  if (experiment !== undefined) return experiment;
  throw new SignalboxError("ROUTE_UNKNOWN", `no experiment ${name.slice(0, TEXT_MAX)}`, { code: "experiment_not_found", param: "name" });
}

/** All in force, as they are listed. */
export function listExperiments(state: ControlState, { config }: ExperimentScene): ExperimentRecord[] {
  return Array.from(experimentsInForce(config, state.experiments).values(), recordOf);
}

/** An experiment as it is shown. */
export function recordOf(experiment: Experiment): ExperimentRecord {
  return create(ExperimentRecordSchema, {
    name: experiment.name,
    revision: BigInt(experiment.revision),
    state: experiment.state,
    model: experiment.model,
    unit: experiment.unit,
    layer: experiment.layer,
    control: experiment.control,
    arms: experiment.arms.map(({ name, weight, backends }) => ({ name, weight, backends: [...(backends ?? [])] })),
    history: experiment.history.map((step) => ({
      revision: BigInt(step.revision),
      action: step.action,
      atMs: step.at_ms,
      by: step.by,
      reason: step.reason,
      weights: { ...step.weights },
    })),
  });
}

type NewArm = Omit<ExperimentArm, "ranges">;

/** Writes the next revision into `state`. */
function store(
  state: ControlState,
  { nowMs }: ExperimentScene,
  next: Experiment,
  arms: readonly NewArm[],
  step: Pick<ExperimentStep, "action" | "by" | "reason">,
): Experiment {
  const revision = next.revision + 1;
  const ranges = extendRanges(next.arms, arms);
  const done: ExperimentStep = {
    revision,
    action: step.action,
    at_ms: nowMs,
    by: step.by.slice(0, TEXT_MAX),
    reason: step.reason.slice(0, TEXT_MAX),
    weights: Object.fromEntries(arms.map(({ name, weight }) => [name, weight])),
  };
  const stored: Experiment = {
    ...next,
    revision,
    arms: arms.map((arm, index) => ({ ...arm, ranges: ranges[index]!.ranges })),
    history: [...next.history, done].slice(-HISTORY_MAX),
  };
  state.experiments[next.name] = encodeExperiment(stored);
  return stored;
}

function only(experiment: Experiment, name: string): NewArm[] {
  return experiment.arms.map((arm) => ({ ...arm, weight: arm.name === name ? 1 : 0 }));
}

/** The arms asked for, with a control arm that takes what they leave. */
function withControl(asked: readonly ArmMessage[], config: Config): NewArm[] {
  if (asked.length === 0 || asked.length > ARMS_MAX) throw refusal("arms", `arms: 1 to ${ARMS_MAX}`);
  const arms = asked.map(({ name, weight, backends }): NewArm => {
    if (!NAME.test(name)) throw refusal("arms", `arm "${name.slice(0, TEXT_MAX)}": letters, digits, dot, dash and underscore`);
    const unknown = backends.find((backend) => !config.backends.has(backend));
    if (unknown !== undefined)
      throw refusal("arms", `arm ${name}: no backend "${unknown.slice(0, TEXT_MAX)}"; known: ${[...config.backends.keys()].join(", ")}`);
    return { name, weight, ...(backends.length === 0 ? {} : { backends }) };
  });
  if (new Set(arms.map(({ name }) => name)).size < arms.length) throw refusal("arms", "every arm has its own name");
  if (!arms.some(({ name }) => name === CONTROL_ARM)) {
    const left = clean(1 - arms.reduce((sum, { weight }) => sum + weight, 0));
    arms.unshift({ name: CONTROL_ARM, weight: left });
  }
  checkWeights(arms);
  return arms;
}

function clean(weight: number): number {
  return Math.abs(weight) < WEIGHT_SLACK ? 0 : Math.round(weight * 1e6) / 1e6;
}

function checkWeights(arms: readonly NewArm[]): void {
  const sum = arms.reduce((total, { weight }) => total + weight, 0);
  if (arms.some(({ weight }) => !(weight >= 0 && weight <= 1)) || Math.abs(sum - 1) > WEIGHT_SLACK)
    throw refusal("weights", "the shares of all arms must sum to 100%");
}

function modelOf(config: Config, asked: string): string {
  if (config.models.has(asked)) return asked;
  for (const model of config.models.values()) if (model.aliases.includes(asked)) return model.name;
  throw refusal("model", `no model "${asked.slice(0, TEXT_MAX)}"; known: ${[...config.models.keys()].join(", ")}`);
}

function isUnit(unit: string): unit is Experiment["unit"] {
  return UNITS.has(unit);
}

function noArm(experiment: Experiment, name: string): SignalboxError {
  const known = experiment.arms.map((arm) => arm.name).join(", ");
  return refusal("arm", `experiment ${experiment.name} has no arm "${name.slice(0, TEXT_MAX)}"; known: ${known}`);
}

function refusal(param: string, message: string): SignalboxError {
  return new SignalboxError("REQUEST_MALFORMED", message, { param });
}
