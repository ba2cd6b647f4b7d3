import type { BudgetConfig, Config, ExperimentConfig, TenantConfig } from "#libs/config/model.ts";
import type { BudgetPeriod } from "./budget-windows.ts";

/** One budget of the configuration, with a name of its own: ingresses and the ledger read the same file and must mean the same thing. */
export interface BudgetSpec {
  /** TENANT/SCOPE/PERIOD/MODE, where SCOPE is `*`, `team:NAME` or `key:ID`; a second one alike gets `#2`. */
  readonly id: string;
  readonly tenant: string;
  /** Undefined = every team. */
  readonly team: string | undefined;
  /** Undefined = every key. */
  readonly key: string | undefined;
  readonly period: BudgetPeriod;
  readonly mode: "hard" | "soft";
  readonly amountNanoUsd: bigint;
  /** Shares of the amount at which an alert is due, ascending. */
  readonly alert: readonly number[];
}

/** Who pays for what the gateway does by itself: probes, shadow copies, judges. No caller is ever this tenant. */
export const SYSTEM_TENANT = "system";

/** Teams of {@link SYSTEM_TENANT} that pay for an experiment's copies and judges: each has a budget of its own. */
export function systemTeam(role: "shadow" | "judge", experiment: string): string {
  return `${role}/${experiment}`;
}

/** Every budget there is: those of the tenants in the order of the configuration, then those of experiments. */
export function budgetSpecs(config: Pick<Config, "tenants" | "experiments">): BudgetSpec[] {
  return [...tenantSpecs(config.tenants), ...[...config.experiments.values()].flatMap(experimentSpecs)];
}

function experimentSpecs({ name, shareShadow, shadowBudgetNanoUsd, judge }: ExperimentConfig): BudgetSpec[] {
  const specs: BudgetSpec[] = [];
  if (shareShadow > 0) specs.push(systemSpec(systemTeam("shadow", name), shadowBudgetNanoUsd));
  if (judge !== undefined) specs.push(systemSpec(systemTeam("judge", name), judge.budgetNanoUsd));
  return specs;
}

function systemSpec(team: string, amountNanoUsd: bigint): BudgetSpec {
  const id = `${SYSTEM_TENANT}/team:${team}/total/hard`;
  return { id, tenant: SYSTEM_TENANT, team, key: undefined, period: "total", mode: "hard", amountNanoUsd, alert: [1] };
}

function tenantSpecs(tenants: ReadonlyMap<string, TenantConfig>): BudgetSpec[] {
  const used = new Map<string, number>();
  return [...tenants.values()].flatMap(({ name, budgets }) =>
    budgets.map((budget) => {
      const base = `${name}/${scopeOf(budget)}/${budget.per}/${budget.mode}`;
      const count = (used.get(base) ?? 0) + 1;
      used.set(base, count);
      return {
        id: count === 1 ? base : `${base}#${count}`,
        tenant: name,
        team: budget.team,
        key: budget.key,
        period: budget.per,
        mode: budget.mode,
        amountNanoUsd: budget.amountNanoUsd,
        alert: budget.alert.toSorted((a, b) => a - b),
      };
    }),
  );
}

function scopeOf({ team, key }: BudgetConfig): string {
  if (key !== undefined) return `key:${key}`;
  return team === undefined ? "*" : `team:${team}`;
}

/** Whether spending of this team and key counts against a budget of their tenant. */
export function isCharged(spec: BudgetSpec, tenant: string, team: string, keyId: string): boolean {
  return spec.tenant === tenant && (spec.team === undefined || spec.team === team) && (spec.key === undefined || spec.key === keyId);
}
