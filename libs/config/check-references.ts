import { isProviderName, ROLE_NAMES } from "./names.ts";
import { suggestion } from "./nearest.ts";
import { shown, type ConfigPath, type Report } from "./problems.ts";
import { listAt, mapAt, textAt, type Tree } from "./tree.ts";

/** Looking for the nearest name takes time with every name there is: a file of ten thousand wrong ones gets no more help. */
const SUGGESTIONS_MAX = 100;

/** Compiles a rule's expression; returns what is wrong with it, or undefined. Given by who owns the language. */
export type RuleCheck = (when: string) => string | undefined;

/** Names used in one part of the file and defined in another. */
export function checkReferences(root: Tree, checkRule: RuleCheck | undefined, report: Report): void {
  const backends = new Set(Object.keys(mapAt(root, "backends")));
  const schedules = new Set(Object.keys(mapAt(root, "schedules")));
  let suggestionsLeft = SUGGESTIONS_MAX;
  const expect = (what: string, names: ReadonlySet<string>, value: unknown, path: ConfigPath): void => {
    if (typeof value !== "string" || names.has(value)) return;
    suggestionsLeft -= 1;
    report(path, `${shown(value)} is not a ${what}, ${suggestionsLeft < 0 ? "correct it" : suggestion(value, names)}`);
  };
  const expectAll = (what: string, names: ReadonlySet<string>, list: readonly unknown[], path: ConfigPath): void => {
    const seen = new Set<unknown>();
    for (const [index, value] of list.entries()) {
      expect(what, names, value, [...path, index]);
      if (seen.has(value)) report([...path, index], `${shown(value)} is given twice, remove one`);
      seen.add(value);
    }
  };
  const models = checkModels(root, expectAll, backends, report);
  checkPrices(root, expect, backends, schedules, report);
  checkRules(root, expectAll, backends, checkRule, report);
  for (const name of Object.keys(mapAt(root, "classes"))) {
    expect("schedule", schedules, mapAt(root, "classes", name)["defer_to"], ["classes", name, "defer_to"]);
  }
  for (const name of Object.keys(mapAt(root, "experiments"))) {
    const path = ["experiments", name];
    expect("model", models, textAt(root, ...path, "model"), [...path, "model"]);
    expect("model", models, textAt(root, ...path, "judge", "model"), [...path, "judge", "model"]);
    for (const arm of Object.keys(mapAt(root, ...path, "arms"))) {
      expectAll("backend", backends, listAt(root, ...path, "arms", arm, "backends"), [...path, "arms", arm, "backends"]);
    }
  }
  checkLayers(root, report);
  checkTenants(root, expect, models, report);
  for (const role of Object.keys(mapAt(root, "mesh", "peers"))) {
    const base = role.startsWith("provider-adapters:") ? "provider-adapters" : role;
    if ((ROLE_NAMES as readonly string[]).includes(base)) continue;
    report(["mesh", "peers", role], `is not a role, ${suggestion(role, ROLE_NAMES)}`, "key");
  }
}

/** A request takes part in one experiment of its model: of two layers on one model the second would get nobody. */
function checkLayers(root: Tree, report: Report): void {
  const owners = new Map(
    Object.keys(mapAt(root, "models")).flatMap((name) => listAt(root, "models", name, "aliases").map((alias) => [alias, name] as const)),
  );
  const layers = new Map<string, readonly [experiment: string, layer: string]>();
  for (const name of Object.keys(mapAt(root, "experiments"))) {
    const asked = textAt(root, "experiments", name, "model");
    if (asked === undefined) continue;
    const model = owners.get(asked) ?? asked;
    const layer = textAt(root, "experiments", name, "layer") ?? model;
    const [other, taken] = layers.get(model) ?? [name, layer];
    layers.set(model, [other, taken]);
    if (layer !== taken)
      report(
        ["experiments", name, "layer"],
        `${shown(layer)} is not the layer of "${other}", which is on the same model: give both one layer`,
      );
  }
}

type Expect = (what: string, names: ReadonlySet<string>, value: unknown, path: ConfigPath) => void;
type ExpectAll = (what: string, names: ReadonlySet<string>, list: readonly unknown[], path: ConfigPath) => void;

/** Everything a client may put in `model`: models, aliases, backends by their own name and as provider/model. */
function checkModels(root: Tree, expectAll: ExpectAll, backends: ReadonlySet<string>, report: Report): ReadonlySet<string> {
  const models = mapAt(root, "models");
  const owners = new Map<string, string>(Object.keys(models).map((name) => [name, name]));
  for (const name of Object.keys(models)) {
    expectAll("backend", backends, listAt(models, name, "candidates"), ["models", name, "candidates"]);
    for (const [index, alias] of listAt(models, name, "aliases").entries()) {
      if (typeof alias !== "string") continue;
      const owner = owners.get(alias);
      if (owner !== undefined)
        report(["models", name, "aliases", index], `${shown(alias)} already leads to the model "${owner}", choose another`);
      else owners.set(alias, name);
    }
  }
  const reachable = new Set(owners.keys());
  if (Object.keys(models).length === 0) reachable.add("default");
  for (const name of backends) {
    reachable.add(name);
    const provider = textAt(root, "backends", name, "provider");
    const upstream = textAt(root, "backends", name, "model");
    if (provider !== undefined && upstream !== undefined) reachable.add(`${provider}/${upstream}`);
  }
  return reachable;
}

function checkPrices(root: Tree, expect: Expect, backends: ReadonlySet<string>, schedules: ReadonlySet<string>, report: Report): void {
  for (const [index, override] of listAt(root, "prices", "overrides").entries()) {
    const path = ["prices", "overrides", index];
    expect("backend", backends, textAt(override, "backend"), [...path, "backend"]);
    expect("schedule", schedules, textAt(override, "schedule"), [...path, "schedule"]);
  }
  const baseline = textAt(root, "prices", "baseline");
  if (baseline === undefined || backends.has(baseline)) return;
  const slash = baseline.indexOf("/");
  if (slash > 0 && slash < baseline.length - 1 && isProviderName(baseline.slice(0, slash))) return;
  report(
    ["prices", "baseline"],
    `${shown(baseline)} is neither a backend nor provider/model such as openai/gpt-5, ${suggestion(baseline, backends)}`,
  );
}

function checkRules(
  root: Tree,
  expectAll: ExpectAll,
  backends: ReadonlySet<string>,
  checkRule: RuleCheck | undefined,
  report: Report,
): void {
  const labels = new Set([...backends].flatMap((name) => Object.keys(mapAt(root, "backends", name, "labels"))));
  const seen = new Set<string>();
  for (const [index, rule] of listAt(root, "rules").entries()) {
    const path = ["rules", index];
    expectAll("backend", backends, listAt(rule, "exclude"), [...path, "exclude"]);
    for (const label of Object.keys(mapAt(rule, "require"))) {
      if (!labels.has(label))
        report([...path, "require", label], `no backend has the label ${shown(label)}, ${suggestion(label, labels)}`, "key");
    }
    const name = textAt(rule, "name");
    if (name !== undefined && seen.has(name)) report([...path, "name"], `${shown(name)} is given twice, rename one`);
    if (name !== undefined) seen.add(name);
    const when = textAt(rule, "when");
    const wrong = when === undefined ? undefined : checkRule?.(when);
    if (wrong !== undefined) report([...path, "when"], wrong);
  }
}

/** Pays for what the gateway does by itself. */
const SYSTEM_TENANT = "system";

function checkTenants(root: Tree, expect: Expect, models: ReadonlySet<string>, report: Report): void {
  for (const name of Object.keys(mapAt(root, "tenants"))) {
    const path = ["tenants", name];
    if (name === SYSTEM_TENANT) report(path, "is the gateway's own tenant, give this one another name", "key");
    for (const [index, model] of listAt(root, ...path, "models").entries()) expect("model", models, model, [...path, "models", index]);
    const teams = new Set(listAt(root, ...path, "teams").filter((team) => typeof team === "string"));
    for (const [index, budget] of listAt(root, ...path, "budgets").entries()) {
      expect(`team of ${name}`, teams, textAt(budget, "team"), [...path, "budgets", index, "team"]);
    }
    const limits = mapAt(root, ...path, "limits");
    if (limits["rpm"] !== undefined && limits["rps"] !== undefined) {
      report([...path, "limits", "rps"], "is given beside rpm, keep one of them: rps is rpm/60", "key");
    }
  }
}
