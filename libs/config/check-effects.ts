import { withParents } from "./check-backends.ts";
import type { CapabilityName } from "./model.ts";
import { isProviderName } from "./names.ts";
import type { Report } from "./problems.ts";
import { capabilitiesOf } from "./providers.ts";
import { listAt, mapAt, textAt, type Tree } from "./tree.ts";

/** Settings that are right and change nothing: reported as warnings, because whoever wrote them expects something. */
export function checkEffects(root: Tree, warn: Report): void {
  for (const name of Object.keys(mapAt(root, "classes"))) {
    if (mapAt(root, "classes", name)["defer_to"] === undefined) continue;
    warn(
      ["classes", name, "defer_to"],
      "has no effect yet: it is for the items of /v1/batches, which is not there; a request that somebody waits for goes as soon as there is room",
    );
  }
  checkPriority(root, warn);
  checkSchedules(root, warn);
  checkRules(root, warn);
  checkResumption(root, warn);
}

/** Engines that know `priority`, and the provider that may be one of them. */
const PRIORITY_PROVIDERS: readonly (string | undefined)[] = ["vllm", "sglang", "openai-compatible"];

function checkPriority(root: Tree, warn: Report): void {
  for (const name of Object.keys(mapAt(root, "backends"))) {
    const merged = withParents(mapAt(root, "backends"), name, () => {});
    if (merged["engine_priority"] !== true || PRIORITY_PROVIDERS.includes(textAt(merged, "provider"))) continue;
    warn(["backends", name, "engine_priority"], "is for vLLM and SGLang: others refuse a request with a `priority`");
  }
}

function checkSchedules(root: Tree, warn: Report): void {
  const classes = Object.keys(mapAt(root, "classes")).map((name) => textAt(root, "classes", name, "defer_to"));
  const used = new Set([...listAt(root, "prices", "overrides").map((override) => textAt(override, "schedule")), ...classes]);
  for (const name of Object.keys(mapAt(root, "schedules")))
    if (!used.has(name)) warn(["schedules", name], "has no effect: no entry of prices.overrides names it as its `schedule`");
}

function checkRules(root: Tree, warn: Report): void {
  for (const [index, rule] of listAt(root, "rules").entries()) {
    const changes = Object.keys(mapAt(rule, "require")).length + listAt(rule, "exclude").length;
    if (changes > 0 || textAt(rule, "class") !== undefined) continue;
    warn(["rules", index], "only keeps the rules behind it from applying: it has no `require`, `exclude` or `class`", "value");
  }
}

function checkResumption(root: Tree, warn: Report): void {
  for (const name of Object.keys(mapAt(root, "models"))) {
    if (textAt(root, "models", name, "mid_stream") !== "resume") continue;
    const candidates = listAt(root, "models", name, "candidates").filter((candidate) => typeof candidate === "string");
    if (candidates.some((candidate) => canContinue(root, candidate))) continue;
    warn(
      ["models", name, "mid_stream"],
      "has no effect: none of the candidates has the capability `prefill`, which continuing an answer takes",
    );
  }
}

function canContinue(root: Tree, backend: string): boolean {
  const merged = withParents(mapAt(root, "backends"), backend, () => {});
  const provider = textAt(merged, "provider");
  if (provider === undefined || !isProviderName(provider)) return false;
  const listed = merged["capabilities"] === undefined ? undefined : (listAt(merged, "capabilities") as readonly CapabilityName[]);
  return capabilitiesOf(provider, listed).has("prefill");
}
