import { create } from "@bufbuild/protobuf";
import {
  type ControlState,
  type ModelRecord,
  ModelRecordSchema,
  type RollbackModelRequest,
} from "#gen/signalbox/control/v1/control_service_pb.ts";
import type { Config, ModelConfig } from "#libs/config/model.ts";
import { modelNamed } from "#libs/config/model-named.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import {
  decodeModelHistory,
  encodeModelHistory,
  type Experiment,
  experimentsInForce,
  noteFileVersion,
  takeBack,
  withModelRevisions,
} from "#libs/experiments/index.ts";
import type { ExperimentScene } from "./experiments.ts";

const TEXT_MAX = 200;

/** Notes the models of the file whose blocks are news. Returns whether there were any. */
export function noteModels(state: ControlState, { config, nowMs }: ExperimentScene): boolean {
  let changed = false;
  for (const model of config.models.values()) {
    const next = noteFileVersion(decodeModelHistory(state.models[model.name]), model, nowMs);
    if (next === undefined) continue;
    state.models[model.name] = encodeModelHistory(next);
    changed = true;
  }
  for (const name of Object.keys(state.models)) {
    if (config.models.has(name)) continue;
    delete state.models[name];
    changed = true;
  }
  return changed;
}

/**
 * Takes back a model's last change in `state`: an experiment promoted since its last revision, else that revision. Returns the name of
 * the experiment that has to be rolled back for that, or undefined when the revision was.
 */
export function rollbackModel(state: ControlState, scene: ExperimentScene, request: RollbackModelRequest): string | undefined {
  const { config, nowMs } = scene;
  const model = findModel(config, request.name);
  noteModels(state, scene);
  const before = decodeModelHistory(state.models[model.name])!;
  const promoted = promotedSince(state, config, model.name, before.history.at(-1)!.at_ms);
  if (promoted !== undefined) return promoted.name;
  const next = takeBack(before, request.by.slice(0, TEXT_MAX), request.reason.slice(0, TEXT_MAX), nowMs);
  if (next === undefined)
    throw new SignalboxError("REQUEST_MALFORMED", `model ${model.name} has no revision before this one`, { param: "name" });
  const gone = next.history.at(-1)!.version.candidates.find((candidate) => !config.backends.has(candidate));
  if (gone !== undefined)
    throw new SignalboxError("REQUEST_MALFORMED", `model ${model.name}: the revision before used backend ${gone}, which is gone`, {
      param: "name",
    });
  state.models[model.name] = encodeModelHistory(next);
  return undefined;
}

/** The experiment on a model whose promotion is the latest thing that happened to it. */
function promotedSince(state: ControlState, config: Config, model: string, sinceMs: number): Experiment | undefined {
  let latest: Experiment | undefined;
  let latestMs = sinceMs;
  for (const experiment of experimentsInForce(config, state.experiments).values()) {
    const promotedMs = experiment.history.findLast(({ action }) => action === "promote")?.at_ms ?? 0;
    if (experiment.model !== model || experiment.state !== "promoted" || promotedMs < latestMs) continue;
    latest = experiment;
    latestMs = promotedMs;
  }
  return latest;
}

/** A model as it is shown. Throws MODEL_UNKNOWN when there is none of that name. */
export function modelRecord(state: ControlState, { config }: ExperimentScene, name: string): ModelRecord {
  const file = findModel(config, name);
  const model = withModelRevisions(config, state.models).models.get(file.name)!;
  const history = decodeModelHistory(state.models[model.name])?.history ?? [];
  const experiments = [...experimentsInForce(config, state.experiments).values()].filter(
    (experiment) => experiment.model === model.name && experiment.state !== "rolled_back",
  );
  return create(ModelRecordSchema, {
    name: model.name,
    revision: BigInt(history.at(-1)?.revision ?? 0),
    candidates: [...model.candidates],
    aliases: [...model.aliases],
    class: model.class,
    experiments: experiments.map((experiment) => experiment.name),
    history: history.map((step) => ({
      revision: BigInt(step.revision),
      action: step.action,
      atMs: step.at_ms,
      by: step.by,
      reason: step.reason,
      candidates: [...step.version.candidates],
    })),
    controlRevision: state.revision,
  });
}

/** All of them, by name. */
export function listModels(state: ControlState, scene: ExperimentScene): ModelRecord[] {
  return [...scene.config.models.keys()].toSorted().map((name) => modelRecord(state, scene, name));
}

function findModel(config: Config, asked: string): ModelConfig {
  const model = modelNamed(config, asked);
  if (model !== undefined) return model;
  const known = [...config.models.keys()].join(", ");
  throw new SignalboxError("ROUTE_UNKNOWN", `no model "${asked.slice(0, TEXT_MAX)}"; known: ${known}`, {
    code: "model_not_found",
    param: "name",
  });
}
