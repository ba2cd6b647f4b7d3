import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type ControlState,
  type ExperimentArm as ArmMessage,
  type ExperimentGuards as GuardsMessage,
  ExperimentGuardsSchema,
  type ExperimentRecord,
  ExperimentRecordSchema,
  type PauseExperimentRequest,
  type PromoteExperimentRequest,
  type RollbackExperimentRequest,
  type SetExperimentWeightsRequest,
  type StartExperimentRequest,
} from "#gen/signalbox/control/v1/control_service_pb.ts";
import type { Config } from "#libs/config/model.ts";
import { modelNamed } from "#libs/config/model-named.ts";
import { changeProblem, type RequestChange } from "#libs/config/request-change.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import {
  blockDigest,
  CONTROL_ARM,
  controlOf,
  encodeExperiment,
  type Experiment,
  type ExperimentArm,
  type ExperimentGuards,
  experimentsInForce,
  type ExperimentStep,
  plannedArm,
  type RolloutPlan,
  STEP_MS,
  STEP_REQUESTS,
} from "#libs/experiments/index.ts";
import { extendRanges } from "#libs/statistics/index.ts";

/** Bounds of what is stored, so that the whole control state stays one small message. */
const EXPERIMENTS_MAX = 100;
const ARMS_MAX = 10;
const HISTORY_MAX = 50;
const STEPS_MAX = 20;
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
  if (before !== undefined && isOn(before))
    throw refusal("name", `experiment ${request.name} runs already: ramp it, or roll it back first`);
  if (before === undefined && inForce.size >= EXPERIMENTS_MAX) throw refusal("name", `at most ${EXPERIMENTS_MAX} experiments`);
  const model = modelOf(config, request.model);
  const unit = request.unit === "" ? "user" : request.unit;
  if (!isUnit(unit)) throw refusal("unit", "unit: user, tenant, conversation or request");
  const plan = planOf(request);
  const arms = withControl(plan === undefined ? request.arms : request.arms.map((arm) => ({ ...arm, weight: plan.steps[0]! })), config);
  if (plan !== undefined && arms.length !== 2) throw refusal("steps", "steps: for one arm beside the control");
  const layer = request.layer === "" ? model : request.layer.slice(0, TEXT_MAX);
  const rival = [...inForce.values()].find(
    (other) => other.name !== request.name && other.model === model && isOn(other) && other.layer !== layer,
  );
  if (rival !== undefined)
    throw refusal(
      "layer",
      `experiment ${rival.name} is on ${model} in the layer ${rival.layer}: a request takes part in one experiment of its model, so give both one layer`,
    );
  const block = config.experiments.get(request.name);
  const next: Experiment = {
    name: request.name,
    revision: before?.revision ?? 0,
    state: "running",
    model,
    unit,
    layer,
    control: controlOf(arms),
    arms: before?.arms ?? [],
    guards: request.guards === undefined ? (block?.guards ?? before?.guards ?? DEFAULT_GUARDS) : guardsOf(request.guards),
    ...(plan === undefined ? {} : { plan }),
    startedRevision: (before?.revision ?? 0) + 1,
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
  const next = { ...before, state: "running" as const, ...planAt(before, arms) };
  return store(state, scene, next, arms, { action: "ramp", by: request.by, reason: "" });
}

/** The plan's next share for its arm; 1 gives it everything and ends the experiment. Undefined when another revision is in force. */
export function advanceExperiment(state: ControlState, scene: ExperimentScene, before: Experiment, share: number): Experiment | undefined {
  const now = find(state, scene, before.name);
  const arm = plannedArm(now);
  if (now.revision !== before.revision || now.state !== "running" || now.plan === undefined || arm === undefined) return undefined;
  const step = now.plan.step + 1;
  const arms = now.arms.map((each) => ({ ...each, weight: each.name === arm ? share : clean(1 - share) }));
  const next = { ...now, state: share >= 1 ? ("promoted" as const) : ("running" as const), plan: { ...now.plan, step } };
  const reason = `step ${step} passed`;
  return store(state, scene, next, arms, { action: share >= 1 ? "promote" : "advance", by: "plan", reason });
}

/** Shares stay as they are. Undefined when there is nothing to change. */
export function pauseExperiment(state: ControlState, scene: ExperimentScene, request: PauseExperimentRequest): Experiment | undefined {
  const before = find(state, scene, request.name);
  if (before.state !== "running") return undefined;
  if (request.ifRevision > 0n && request.ifRevision !== BigInt(before.revision)) return undefined;
  return store(state, scene, { ...before, state: "paused" }, before.arms, { action: "pause", by: request.by, reason: request.reason });
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
  return Array.from(experimentsInForce(config, state.experiments).values(), (experiment) => recordOf(experiment, state.revision));
}

/** An experiment as it is shown. */
export function recordOf(experiment: Experiment, controlRevision: bigint): ExperimentRecord {
  return create(ExperimentRecordSchema, {
    name: experiment.name,
    revision: BigInt(experiment.revision),
    state: experiment.state,
    model: experiment.model,
    unit: experiment.unit,
    layer: experiment.layer,
    control: experiment.control,
    guards: guardsMessage(experiment.guards),
    steps: [...(experiment.plan?.steps ?? [])],
    step: experiment.plan?.step ?? 0,
    stepMs: experiment.plan?.stepMs ?? 0,
    stepRequests: experiment.plan?.stepRequests ?? 0,
    controlRevision,
    arms: experiment.arms.map(({ name, weight, backends, request }) => ({
      name,
      weight,
      backends: [...(backends ?? [])],
      requestJson: request === undefined ? "" : JSON.stringify(request),
    })),
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
  const arms = asked.map(({ name, weight, backends, requestJson }): NewArm => {
    if (!NAME.test(name)) throw refusal("arms", `arm "${name.slice(0, TEXT_MAX)}": letters, digits, dot, dash and underscore`);
    const unknown = backends.find((backend) => !config.backends.has(backend));
    if (unknown !== undefined)
      throw refusal("arms", `arm ${name}: no backend "${unknown.slice(0, TEXT_MAX)}"; known: ${[...config.backends.keys()].join(", ")}`);
    const request = requestJson === "" ? undefined : changeOf(name, requestJson);
    return { name, weight, ...(backends.length === 0 ? {} : { backends }), ...(request === undefined ? {} : { request }) };
  });
  if (new Set(arms.map(({ name }) => name)).size < arms.length) throw refusal("arms", "every arm has its own name");
  if (!arms.some(({ name }) => name === CONTROL_ARM)) {
    const left = clean(1 - arms.reduce((sum, { weight }) => sum + weight, 0));
    arms.unshift({ name: CONTROL_ARM, weight: left });
  }
  checkWeights(arms);
  return arms;
}

/** What an arm changes in requests. */
function changeOf(arm: string, json: string): RequestChange {
  let change: unknown;
  try {
    change = JSON.parse(json);
  } catch {
    change = undefined;
  }
  if (typeof change !== "object" || change === null || Array.isArray(change))
    throw refusal("arms", `arm ${arm}: request must be an object`);
  const problem = changeProblem(change as RequestChange);
  if (problem !== undefined) throw refusal("arms", `arm ${arm}: request ${problem}`);
  return change as RequestChange;
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
  const model = modelNamed(config, asked);
  if (model !== undefined) return model.name;
  throw refusal("model", `no model "${asked.slice(0, TEXT_MAX)}"; known: ${[...config.models.keys()].join(", ")}`);
}

/** The plan asked for: shares that rise to at most 1. */
function planOf({ steps, stepMs, stepRequests }: StartExperimentRequest): RolloutPlan | undefined {
  if (steps.length === 0) return undefined;
  const rising = steps.every((share, at) => share > (steps[at - 1] ?? 0) && share <= 1);
  if (!rising || steps.length > STEPS_MAX)
    throw refusal("steps", `steps: up to ${STEPS_MAX} rising shares, such as 1%, 5%, 20%, 50%, 100%`);
  return { steps, step: 0, stepMs: stepMs > 0 ? stepMs : STEP_MS, stepRequests: stepRequests > 0 ? stepRequests : STEP_REQUESTS };
}

/** After shares were set by hand, the plan goes on from the step that the arm's share has reached. */
function planAt({ plan, control }: Experiment, arms: readonly NewArm[]): { readonly plan?: RolloutPlan } {
  if (plan === undefined) return {};
  const share = arms.find(({ name }) => name !== control)?.weight ?? 0;
  const step = plan.steps.findLastIndex((each) => each <= share + WEIGHT_SLACK);
  return { plan: { ...plan, step: Math.max(0, step) } };
}

function guardsOf({ errorRate, ttft, cost, quality, action }: GuardsMessage): ExperimentGuards {
  if (!isAction(action)) throw refusal("guards", "guards: action is rollback, pause or alert");
  for (const margin of [errorRate, ttft, cost, quality])
    if (margin !== undefined && !Number.isFinite(margin)) throw refusal("guards", "guards: margins are numbers");
  return { errorRate, ttft, cost, quality, action: action === "" ? "rollback" : action };
}

function isAction(word: string): word is ExperimentGuards["action"] | "" {
  return word === "" || word === "rollback" || word === "pause" || word === "alert";
}

function guardsMessage({ errorRate, ttft, cost, quality, action }: ExperimentGuards): MessageInitShape<typeof ExperimentGuardsSchema> {
  return {
    action,
    ...(errorRate === undefined ? {} : { errorRate }),
    ...(ttft === undefined ? {} : { ttft }),
    ...(cost === undefined ? {} : { cost }),
    ...(quality === undefined ? {} : { quality }),
  };
}

function isUnit(unit: string): unit is Experiment["unit"] {
  return UNITS.has(unit);
}

function noArm(experiment: Experiment, name: string): SignalboxError {
  const known = experiment.arms.map((arm) => arm.name).join(", ");
  return refusal("arm", `experiment ${experiment.name} has no arm "${name.slice(0, TEXT_MAX)}"; known: ${known}`);
}

/** Whether units go to its arms. */
function isOn({ state }: Experiment): boolean {
  return state === "running" || state === "paused";
}

function refusal(param: string, message: string): SignalboxError {
  return new SignalboxError("REQUEST_MALFORMED", message, { param });
}
