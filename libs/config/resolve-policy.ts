import { defaultModel } from "./default-model.ts";
import * as defaults from "./defaults.ts";
import type {
  ClassConfig,
  ClassName,
  Config,
  ExperimentConfig,
  ModelConfig,
  PricesConfig,
  ResilienceConfig,
  RuleConfig,
  ScheduleConfig,
  TenantConfig,
} from "./model.ts";
import { CLASS_NAMES } from "./names.ts";
import { perMinute, priceOf } from "./resolve-backends.ts";
import { mergeWindows, parseWindow } from "./schedule-windows.ts";
import type { FileConfig } from "./schema.ts";

/** The models, or one named `default` over all backends when the file names none. */
export function resolveModels(file: FileConfig, backends: readonly string[]): ReadonlyMap<string, ModelConfig> {
  const models = new Map<string, ModelConfig>();
  for (const [name, model] of Object.entries(file.models ?? {})) {
    models.set(name, {
      name,
      aliases: model.aliases ?? [],
      candidates: model.candidates,
      requires: new Set(model.requires),
      sla: { ttftMs: model.sla?.ttft, tpotMs: model.sla?.tpot, deadlineMs: model.sla?.deadline },
      class: model.class ?? "standard",
      midStream: model.mid_stream ?? "error",
      singleFlight: model.single_flight ?? false,
    });
  }
  if (models.size === 0) models.set(defaults.DEFAULT_MODEL, defaultModel(defaults.DEFAULT_MODEL, backends));
  return models;
}

/** Prices; files are made relative to the configuration file by `near`. */
export function resolvePrices(file: FileConfig, near: (path: string) => string): PricesConfig {
  const { prices } = file;
  return {
    onUnknown: prices?.on_unknown ?? "reject",
    baseline: prices?.baseline,
    files: (prices?.files ?? []).map(near),
    overrides: (prices?.overrides ?? []).map((override) => ({
      ...priceOf(override),
      backend: override.backend,
      effectiveFromMs: override.effective_from ?? 0,
      schedule: override.schedule,
      tiers: (override.tiers ?? []).map((tier) => ({ aboveTokens: tier.above, price: priceOf(tier) })),
      serviceTiers: new Map(Object.entries(override.service_tiers ?? {}).map(([tier, price]) => [tier, priceOf(price)])),
    })),
  };
}

export function resolveSchedules(file: FileConfig): ReadonlyMap<string, ScheduleConfig> {
  const schedules = new Map<string, ScheduleConfig>();
  for (const [name, schedule] of Object.entries(file.schedules ?? {})) {
    const windows = schedule.windows.flatMap((window) => {
      const parsed = parseWindow(window);
      return "value" in parsed ? parsed.value : [];
    });
    schedules.set(name, { name, tz: schedule.tz ?? "UTC", windows: mergeWindows(windows) });
  }
  return schedules;
}

export function resolveRules(file: FileConfig): readonly RuleConfig[] {
  return (file.rules ?? []).map((rule) => ({
    name: rule.name,
    when: rule.when,
    require: new Map(Object.entries(rule.require ?? {})),
    exclude: rule.exclude ?? [],
    class: rule.class,
  }));
}

export function resolveClasses(file: FileConfig): Config["classes"] {
  const resolved = {} as Record<ClassName, ClassConfig>;
  for (const name of CLASS_NAMES) {
    const written = file.classes?.[name];
    const base = defaults.CLASSES[name];
    resolved[name] = {
      ceiling: written?.ceiling ?? base.ceiling,
      queueMax: written?.queue ?? base.queueMax,
      maxWaitMs: written?.max_wait ?? base.maxWaitMs,
      minShare: written?.min_share ?? base.minShare,
      deferTo: written?.defer_to,
    };
  }
  return resolved;
}

export function resolveResilience(file: FileConfig): ResilienceConfig {
  const written = file.resilience ?? {};
  const base = defaults.RESILIENCE;
  return {
    attempts: {
      interactive: written.attempts?.interactive ?? base.attempts.interactive,
      standard: written.attempts?.standard ?? base.attempts.standard,
      batch: written.attempts?.batch ?? base.attempts.batch,
    },
    retry: { budget: written.retry?.budget ?? base.retry.budget, minPerS: written.retry?.min_per_s ?? base.retry.minPerS },
    hedge: {
      budget: written.hedge?.budget ?? base.hedge.budget,
      after: written.hedge?.after ?? base.hedge.after,
      maxCostNanoUsd: written.hedge?.max_cost ?? base.hedge.maxCostNanoUsd,
    },
    breaker: {
      consecutive: written.breaker?.consecutive ?? base.breaker.consecutive,
      successRate: written.breaker?.success_rate ?? base.breaker.successRate,
      windowMs: written.breaker?.window ?? base.breaker.windowMs,
      minRequests: written.breaker?.min_requests ?? base.breaker.minRequests,
      openMs: written.breaker?.open ?? base.breaker.openMs,
      maxOpenMs: Math.max(written.breaker?.max_open ?? base.breaker.maxOpenMs, written.breaker?.open ?? 0),
      maxEjected: written.breaker?.max_ejected ?? base.breaker.maxEjected,
    },
    timeouts: {
      decideMs: written.timeouts?.decide ?? base.timeouts.decideMs,
      connectMs: written.timeouts?.connect ?? base.timeouts.connectMs,
      firstTokenMs: written.timeouts?.first_token ?? base.timeouts.firstTokenMs,
      idleStreamMs: written.timeouts?.idle_stream ?? base.timeouts.idleStreamMs,
    },
  };
}

/** Experiments; an experiment on an alias is on the alias's model. Without a `layer` a model has one of its own name. */
export function resolveExperiments(file: FileConfig, models: ReadonlyMap<string, ModelConfig>): ReadonlyMap<string, ExperimentConfig> {
  const owners = new Map([...models.values()].flatMap((model) => model.aliases.map((alias) => [alias, model.name] as const)));
  const experiments = new Map<string, ExperimentConfig>();
  for (const [name, written] of Object.entries(file.experiments ?? {})) {
    const model = models.has(written.model) ? written.model : (owners.get(written.model) ?? written.model);
    const arms = Object.entries(written.arms).map(([arm, settings]) => {
      const full = typeof settings === "number" ? { weight: settings } : settings;
      return [arm, { weight: full.weight, backends: full.backends, request: full.request }] as const;
    });
    experiments.set(name, {
      name,
      model,
      unit: written.unit ?? "user",
      layer: written.layer ?? model,
      arms: new Map(arms),
      guards: {
        errorRate: written.guards?.error_rate,
        ttft: written.guards?.ttft,
        cost: written.guards?.cost,
        quality: written.guards?.quality,
        action: written.guards?.action ?? "rollback",
      },
      shareShadow: written.share_shadow ?? 0,
      shadowBudgetNanoUsd: written.shadow_budget ?? defaults.SHADOW_BUDGET_NANO_USD,
      steps: written.steps ?? [],
      judge: written.judge && {
        model: written.judge.model,
        share: written.judge.share ?? defaults.JUDGE_SHARE,
        budgetNanoUsd: written.judge.budget ?? defaults.JUDGE_BUDGET_NANO_USD,
        prompt: written.judge.prompt,
      },
    });
  }
  return experiments;
}

export function resolveTenants(file: FileConfig): ReadonlyMap<string, TenantConfig> {
  const tenants = new Map<string, TenantConfig>();
  for (const [name, written] of Object.entries(file.tenants ?? {})) {
    tenants.set(name, {
      name,
      teams: written.teams ?? [],
      budgets: (written.budgets ?? []).map((budget) => ({
        amountNanoUsd: budget.amount,
        per: budget.per,
        mode: budget.mode ?? "hard",
        alert: budget.alert ?? defaults.BUDGET_ALERTS,
        team: budget.team,
        key: budget.key,
      })),
      limits: {
        rpm: perMinute(written.limits),
        tpm: written.limits?.tpm,
        concurrency: written.limits?.concurrency,
        weight: written.limits?.weight ?? defaults.TENANT_WEIGHT,
      },
      models: written.models,
    });
  }
  return tenants;
}
