import type { DecideRequest } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Config } from "#libs/config/model.ts";
import {
  type ChangeEffect,
  changeEffect,
  type Experiment,
  NO_EFFECT,
  experimentOfUnit,
  experimentsInForce,
} from "#libs/experiments/index.ts";
import { armAt, bucketOf, BUCKETS } from "#libs/statistics/index.ts";
import type { CompiledModel } from "./models.ts";

/** An arm as decisions see it: its model has only the arm's candidates. */
export interface CompiledArm {
  readonly name: string;
  readonly model: CompiledModel;
  /** Candidates of the experiment's other arms that are not its own. */
  readonly others: Int32Array;
  /** JSON of what it changes in requests; empty = nothing. */
  readonly requestChange: Uint8Array;
  /** What that does to a request's estimate. */
  readonly effect: ChangeEffect;
}

/** Which requests are copied to which arms. */
export interface CompiledShadow {
  /** 0..1 of the requests that another arm answers. */
  readonly share: number;
  readonly arms: readonly CompiledArm[];
}

/** An experiment as decisions see it. */
export interface CompiledExperiment {
  /** Copies of what other arms answer; undefined = none. */
  readonly shadow: CompiledShadow | undefined;
  readonly experiment: Experiment;
  readonly revision: bigint;
  readonly arms: readonly CompiledArm[];
  readonly control: CompiledArm;
  /** The arm of more than half the units, else the control: for requests without a unit, and for ingresses that no engine answers. */
  readonly usual: CompiledArm;
}

/** Where a request belongs. */
export interface Assignment {
  readonly experiment: CompiledExperiment;
  readonly arm: CompiledArm;
}

/** A layer as seen from one model: all its experiments compete for a unit, those of other models included. */
interface Layer {
  readonly name: string;
  readonly names: readonly string[];
  /** By position in `names`; undefined = on another model. */
  readonly own: readonly (CompiledExperiment | undefined)[];
}

const NO_CHANGE = new Uint8Array(0);
const NOBODY: readonly never[] = [];

/** The experiments of a snapshot, ready to assign. */
export class ExperimentTable {
  readonly #byName = new Map<string, CompiledExperiment>();
  readonly #layers = new Map<string, readonly Layer[]>();
  /** Models that experiments are on, as requests outside of every experiment see them. */
  readonly models: ReadonlyMap<string, CompiledModel>;

  /** Compiles what is in force; an experiment on a model that is gone does nothing. */
  constructor(
    config: Config,
    stored: Readonly<Record<string, Uint8Array>>,
    models: ReadonlyMap<string, CompiledModel>,
    indexOf: ReadonlyMap<string, number>,
  ) {
    const inForce = [...experimentsInForce(config, stored).values()].filter(({ model }) => models.has(model));
    const replaced = new Map<string, CompiledModel>();
    for (const [name, experiments] of Map.groupBy(inForce, ({ model }) => model)) {
      const model = models.get(name)!;
      const free = unclaimed(model, experiments, indexOf);
      for (const experiment of experiments) this.#byName.set(experiment.name, compile(experiment, model, free, indexOf, config));
      const first = this.#byName.get(experiments[0]!.name)!;
      replaced.set(name, experiments.length === 1 ? first.usual.model : { ...model, candidates: free });
    }
    for (const name of replaced.keys()) this.#layers.set(name, layersOf(name, inForce, this.#byName));
    this.models = replaced;
  }

  /** Arms with units of their own that can be served by nobody but `isOut`s. */
  *armsWithout(isOut: (index: number) => boolean): Generator<Assignment> {
    for (const experiment of this.#byName.values()) {
      for (const [at, arm] of experiment.arms.entries()) {
        const { candidates } = arm.model;
        if (experiment.experiment.arms[at]!.weight > 0 && candidates.length > 0 && candidates.every(isOut)) yield { experiment, arm };
      }
    }
  }

  /** Names of what is in force. */
  get names(): ReadonlySet<string> {
    return new Set(this.#byName.keys());
  }

  get(name: string): CompiledExperiment | undefined {
    return this.#byName.get(name);
  }

  /** The experiment and arm of a request on `model` (its own name), or undefined. A forced arm of an experiment on it goes first. */
  assign(request: DecideRequest, model: string): Assignment | undefined {
    if (this.#byName.size === 0) return undefined;
    const layers = this.#layers.get(model);
    if (layers === undefined) return undefined;
    if (request.forcedArm !== "") {
      const forced = this.#forced(request.forcedArm, model);
      if (forced !== undefined) return forced;
    }
    for (const layer of layers) {
      const assigned = assignIn(layer, request);
      if (assigned !== undefined) return assigned;
    }
    return undefined;
  }

  #forced(text: string, model: string): Assignment | undefined {
    const split = text.indexOf("=");
    const experiment = this.#byName.get(text.slice(0, split));
    if (experiment === undefined || experiment.experiment.model !== model) return undefined;
    const arm = experiment.arms.find(({ name }) => name === text.slice(split + 1));
    return arm && { experiment, arm };
  }
}

function assignIn(layer: Layer, request: DecideRequest): Assignment | undefined {
  for (let index = 0; index < layer.own.length; index++) {
    const experiment = layer.own[index];
    if (experiment === undefined) continue;
    const unit = unitOf(request, experiment.experiment.unit);
    if (layer.names.length > 1 && experimentOfUnit(layer.name, layer.names, unit) !== index) continue;
    if (unit === "") return { experiment, arm: experiment.usual };
    const at = armAt(experiment.experiment.arms, bucketOf(experiment.experiment.name, unit));
    return { experiment, arm: experiment.arms[at] ?? experiment.control };
  }
  return undefined;
}

/** What sticks to its arm. Where the caller does not say who the user is, its conversation does; where that is not known either, nothing. */
export function unitOf(request: DecideRequest, unit: Experiment["unit"]): string {
  switch (unit) {
    case "user":
      return request.unit || request.conversation || request.decisionId;
    case "tenant":
      return request.tenant;
    case "conversation":
      return request.conversation || request.decisionId;
    case "request":
      return request.decisionId;
  }
}

/** Candidates that no arm of the model's experiments names; all of them when that leaves nobody. */
/**
 * Arms that get copies: those without units of their own, which nobody would otherwise see; else every arm beside the control.
 * An experiment that ended copies nothing.
 */
function shadowOf(experiment: Experiment, arms: readonly CompiledArm[], share: number): CompiledShadow | undefined {
  if (share <= 0 || experiment.state === "rolled_back" || experiment.state === "promoted") return undefined;
  const others = arms.filter(({ name }) => name !== experiment.control);
  const unseen = others.filter(({ name }) => experiment.arms.find((arm) => arm.name === name)!.weight === 0);
  return { share, arms: unseen.length > 0 ? unseen : others };
}

/** The arm that gets a copy of a request; undefined = none does. */
export function shadowArm({ experiment, arm }: Assignment, decisionId: string): CompiledArm | undefined {
  const { shadow } = experiment;
  if (shadow === undefined || arm !== experiment.control) return undefined;
  const bucket = bucketOf(`${experiment.experiment.name}/shadow`, decisionId);
  return bucket < shadow.share * BUCKETS ? shadow.arms[bucket % shadow.arms.length] : undefined;
}

function unclaimed(model: CompiledModel, experiments: readonly Experiment[], indexOf: ReadonlyMap<string, number>): Int32Array {
  const claimed = new Set(experiments.flatMap(({ arms }) => arms.flatMap((arm) => indicesOf(arm.backends ?? NOBODY, indexOf))));
  const free = model.candidates.filter((index) => !claimed.has(index));
  return free.length === 0 ? model.candidates : free;
}

function compile(
  experiment: Experiment,
  model: CompiledModel,
  free: Int32Array,
  indexOf: ReadonlyMap<string, number>,
  config: Config,
): CompiledExperiment {
  const candidates = experiment.arms.map(({ backends }) => (backends === undefined ? free : Int32Array.from(indicesOf(backends, indexOf))));
  const arms = experiment.arms.map((arm, at): CompiledArm => ({
    name: arm.name,
    model: { ...model, candidates: candidates[at]! },
    others: othersThan(candidates[at]!, candidates),
    requestChange: arm.request === undefined ? NO_CHANGE : Buffer.from(JSON.stringify(arm.request)),
    effect: arm.request === undefined ? NO_EFFECT : changeEffect(arm.request),
  }));
  const control = arms.find(({ name }) => name === experiment.control) ?? arms[0]!;
  const usual = arms.find((_, index) => experiment.arms[index]!.weight > 0.5) ?? control;
  const shadow = shadowOf(experiment, arms, config.experiments.get(experiment.name)?.shareShadow ?? 0);
  return { experiment, shadow, revision: BigInt(experiment.revision), arms, control, usual };
}

function othersThan(own: Int32Array, all: readonly Int32Array[]): Int32Array {
  return Int32Array.from(new Set(all.flatMap((each) => [...each]).filter((index) => !own.includes(index))));
}

function indicesOf(backends: readonly string[], indexOf: ReadonlyMap<string, number>): number[] {
  return backends.map((name) => indexOf.get(name)).filter((index) => index !== undefined);
}

function layersOf(model: string, inForce: readonly Experiment[], compiled: ReadonlyMap<string, CompiledExperiment>): Layer[] {
  const layers: Layer[] = [];
  for (const [name, all] of Map.groupBy(inForce, ({ layer }) => layer)) {
    // One that was rolled back keeps its units only while nobody else wants them.
    const live = all.filter(({ state }) => state !== "rolled_back");
    const experiments = live.length === 0 ? all : live;
    const own = experiments.map((experiment) => (experiment.model === model ? compiled.get(experiment.name) : undefined));
    if (own.some((each) => each !== undefined)) layers.push({ name, names: experiments.map((each) => each.name), own });
  }
  return layers;
}
