import { maskOf } from "#libs/capability/index.ts";
import type { ClassName, Config, ModelConfig } from "#libs/config/model.ts";
import type { CompiledBackend } from "./snapshot.ts";

/** A model as decisions see it: configured, or implied by a backend (`provider/model`, or the backend's own name). */
export interface CompiledModel {
  readonly name: string;
  /** Every name it answers to, its own first. */
  readonly names: readonly string[];
  /** Backend indices, in the order that breaks ties. */
  readonly candidates: Int32Array;
  /** Capability bits it always needs. */
  readonly requires: number;
  readonly sla: ModelConfig["sla"];
  readonly class: ClassName;
  readonly midStream: ModelConfig["midStream"];
  /** True when no configuration names it. */
  readonly implied: boolean;
}

const NO_SLA: ModelConfig["sla"] = { ttftMs: undefined, tpotMs: undefined, deadlineMs: undefined };

/** The model table by every name. A configured name wins over an alias, that over `provider/model`, that over a backend's name. */
export function compileModels(config: Config, backends: readonly CompiledBackend[]): ReadonlyMap<string, CompiledModel> {
  const table = new Map<string, CompiledModel>();
  const indexOf = new Map(backends.map((backend) => [backend.name, backend.index]));
  const configured = Array.from(config.models.values(), (model) => configuredModel(model, indexOf));
  for (const model of configured) table.set(model.name, model);
  for (const model of configured) addNames(table, model, model.names);
  for (const model of impliedModels(backends)) addNames(table, model, model.names);
  return table;
}

function addNames(table: Map<string, CompiledModel>, model: CompiledModel, names: readonly string[]): void {
  for (const name of names) if (!table.has(name)) table.set(name, model);
}

function configuredModel(model: ModelConfig, indexOf: ReadonlyMap<string, number>): CompiledModel {
  const candidates = model.candidates.map((name) => indexOf.get(name)).filter((index) => index !== undefined);
  return {
    name: model.name,
    names: [model.name, ...model.aliases],
    candidates: Int32Array.from(candidates),
    requires: maskOf(model.requires),
    sla: model.sla,
    class: model.class,
    midStream: model.midStream,
    implied: false,
  };
}

function* impliedModels(backends: readonly CompiledBackend[]): Generator<CompiledModel> {
  const byModel = new Map<string, number[]>();
  for (const { config, index } of backends) {
    const name = `${config.provider}/${config.model}`;
    const known = byModel.get(name);
    if (known === undefined) byModel.set(name, [index]);
    else known.push(index);
  }
  for (const [name, indices] of byModel) yield impliedModel(name, indices);
  for (const { name, index } of backends) yield impliedModel(name, [index]);
}

function impliedModel(name: string, indices: readonly number[]): CompiledModel {
  return {
    name,
    names: [name],
    candidates: Int32Array.from(indices),
    requires: 0,
    sla: NO_SLA,
    class: "standard",
    midStream: "error",
    implied: true,
  };
}
