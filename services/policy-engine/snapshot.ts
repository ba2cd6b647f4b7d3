import type { ControlState } from "#gen/signalbox/control/v1/control_service_pb.ts";
import { withModelRevisions } from "#libs/experiments/index.ts";
import { maskOf } from "#libs/capability/index.ts";
import type { BackendConfig, ClassName, Config } from "#libs/config/model.ts";
import type { PriceIndex } from "#libs/money/index.ts";
import { ExperimentTable } from "./experiments.ts";
import { compileModels, type CompiledModel } from "./models.ts";
import { compileRules, type CompiledRule } from "#libs/rules/index.ts";

/** A backend as decisions see it. */
export interface CompiledBackend {
  readonly index: number;
  readonly name: string;
  readonly config: BackendConfig;
  /** An engine of our own whose pace follows the structural model; otherwise its latencies are learned as they come. */
  readonly structural: boolean;
  /** Whether its engine shares the beginning of two prompts only once one of them is computed: then it helps to send one first. */
  readonly leadsFirst: boolean;
  /** Scheme, host and port it is reached at: its failure domain. */
  readonly origin: string;
  /** Factor on the structural prior: model size over 8 B. */
  readonly scale: number;
}

/** Everything a decision depends on that changes by being replaced: configuration, control state, prices. Immutable. */
export interface PolicySnapshot {
  readonly config: Config;
  /** Control state it was compiled from; undefined before the first. */
  readonly control: ControlState | undefined;
  readonly prices: PriceIndex;
  readonly backends: readonly CompiledBackend[];
  readonly indexOf: ReadonlyMap<string, number>;
  /** By backend index: capability bits, context window (tokens), 1 = drained by hand. */
  readonly masks: Uint32Array;
  readonly contexts: Float64Array;
  readonly drained: Uint8Array;
  /** By backend index: the strictest time per output token and time to first token asked of it, ms; Infinity = none. */
  readonly paceTargets: Float64Array;
  readonly ttftTargets: Float64Array;
  /** By every name a model answers to. */
  readonly models: ReadonlyMap<string, CompiledModel>;
  readonly experiments: ExperimentTable;
  readonly rules: readonly CompiledRule[];
  /** Models a key may use; a key without a line may use all. */
  readonly keyModels: ReadonlyMap<string, ReadonlySet<string>>;
  /** Models a tenant may use, likewise. */
  readonly tenantModels: ReadonlyMap<string, ReadonlySet<string>>;
  /** Tenants with a hard budget: their requests need an output ceiling. */
  readonly hardBudgets: ReadonlySet<string>;
}

/** Providers whose engines batch continuously and whose pace the structural model describes. */
const ENGINES: ReadonlySet<string> = new Set(["vllm", "sglang", "llamacpp", "tgi", "ollama"]);

/** Those of them that do not share a prefix while it is being computed; vLLM and SGLang do (routing, section 1.10). */
const LEADS_FIRST: ReadonlySet<string> = new Set(["llamacpp", "tgi", "ollama"]);

/** The structural prior is that of an 8-billion-parameter model. */
const PRIOR_PARAMS_B = 8;

/** Compiles a snapshot. Throws SignalboxError REQUEST_MALFORMED when a rule does not compile. */
export function compileSnapshot(file: Config, control: ControlState | undefined, prices: PriceIndex): PolicySnapshot {
  const config = withModelRevisions(file, control?.models ?? {});
  const drains = new Set(control?.drainedBackends);
  const backends: CompiledBackend[] = [];
  const indexOf = new Map<string, number>();
  for (const backend of config.backends.values()) {
    indexOf.set(backend.name, backends.length);
    backends.push({
      index: backends.length,
      name: backend.name,
      config: backend,
      structural: ENGINES.has(backend.provider) || backend.metrics !== undefined,
      leadsFirst: LEADS_FIRST.has(backend.provider),
      origin: originOf(backend.url),
      scale: backend.paramsB === undefined ? 1 : backend.paramsB / PRIOR_PARAMS_B,
    });
  }
  const configured = compileModels(config, backends);
  const experiments = new ExperimentTable(config, control?.experiments ?? {}, configured, indexOf);
  return {
    config,
    control,
    prices,
    backends,
    indexOf,
    masks: Uint32Array.from(backends, (backend) => maskOf(backend.config.capabilities)),
    contexts: Float64Array.from(backends, (backend) => backend.config.contextTokens),
    drained: Uint8Array.from(backends, (backend) => (drains.has(backend.name) ? 1 : 0)),
    paceTargets: paceTargetsOf(config, backends),
    ttftTargets: ttftTargetsOf(config, backends),
    models: withoutArms(configured, experiments),
    experiments,
    rules: compileRules(
      config.rules,
      backends.map((backend) => backend.config),
    ),
    keyModels: keyModelsOf(control),
    tenantModels: tenantModelsOf(config),
    hardBudgets: hardBudgetsOf(config),
  };
}

/** The model table as requests outside of every experiment see it. */
function withoutArms(models: ReadonlyMap<string, CompiledModel>, experiments: ExperimentTable): ReadonlyMap<string, CompiledModel> {
  if (experiments.models.size === 0) return models;
  return new Map(Array.from(models, ([name, model]) => [name, (!model.implied && experiments.models.get(model.name)) || model]));
}

function originOf(url: string): string {
  return URL.canParse(url) ? new URL(url).origin : url;
}

/** Pace where no model states one, ms: a person reads at about this. */
const PACE_TARGETS: Readonly<Record<ClassName, number>> = { interactive: 50, standard: 100, batch: 200 };

/** The strictest pace any configured model asks of a backend. */
function paceTargetsOf(config: Config, backends: readonly CompiledBackend[]): Float64Array {
  const targets = new Map<string, number>();
  for (const model of config.models.values()) {
    const target = model.sla.tpotMs ?? PACE_TARGETS[model.class];
    for (const name of model.candidates) targets.set(name, Math.min(targets.get(name) ?? Number.POSITIVE_INFINITY, target));
  }
  return Float64Array.from(backends, (backend) => targets.get(backend.name) ?? PACE_TARGETS.standard);
}

/** Time to first token where an interactive model states none, ms. */
const INTERACTIVE_TTFT_MS = 1_000;

/** The strictest time to first token any configured model asks of a backend. */
function ttftTargetsOf(config: Config, backends: readonly CompiledBackend[]): Float64Array {
  const targets = new Map<string, number>();
  for (const model of config.models.values()) {
    const target = model.sla.ttftMs ?? (model.class === "interactive" ? INTERACTIVE_TTFT_MS : Number.POSITIVE_INFINITY);
    for (const name of model.candidates) targets.set(name, Math.min(targets.get(name) ?? Number.POSITIVE_INFINITY, target));
  }
  return Float64Array.from(backends, (backend) => targets.get(backend.name) ?? Number.POSITIVE_INFINITY);
}

function keyModelsOf(control: ControlState | undefined): ReadonlyMap<string, ReadonlySet<string>> {
  const models = new Map<string, ReadonlySet<string>>();
  for (const key of control?.keys ?? []) {
    if (key.models.length > 0) models.set(key.keyId, new Set(key.models));
  }
  return models;
}

function tenantModelsOf(config: Config): ReadonlyMap<string, ReadonlySet<string>> {
  const models = new Map<string, ReadonlySet<string>>();
  for (const tenant of config.tenants.values()) {
    if (tenant.models !== undefined) models.set(tenant.name, new Set(tenant.models));
  }
  return models;
}

function hardBudgetsOf(config: Config): ReadonlySet<string> {
  const tenants = new Set<string>();
  for (const tenant of config.tenants.values()) {
    if (tenant.budgets.some((budget) => budget.mode === "hard")) tenants.add(tenant.name);
  }
  return tenants;
}
