import { isProviderName } from "./names.ts";
import { suggestion } from "./nearest.ts";
import { shown, type Report } from "./problems.ts";
import { PROVIDERS } from "./providers.ts";
import { secretText } from "./references.ts";
import { mapAt, textAt, type Tree } from "./tree.ts";

/** Parents of parents of parents: more is a puzzle for whoever reads the file. */
const EXTENDS_MAX = 8;

/**
 * What a backend says with what it extends: a setting written in the child replaces the parent's whole.
 * Reports an unknown parent, a cycle and a chain that is too long.
 */
export function withParents(backends: Tree, name: string, report: Report): Tree {
  const seen = [name];
  let merged: Tree = mapAt(backends, name);
  let parent = textAt(merged, "extends");
  while (parent !== undefined) {
    const path = ["backends", name, "extends"];
    if (!Object.hasOwn(backends, parent)) {
      const child = seen.at(-1) ?? name;
      report(["backends", child, "extends"], `${shown(parent)} is not a backend, ${suggestion(parent, Object.keys(backends))}`);
      break;
    }
    if (seen.includes(parent)) {
      report(path, `goes round in a circle (${[...seen, parent].join(" -> ")}), remove one \`extends\``);
      break;
    }
    seen.push(parent);
    if (seen.length > EXTENDS_MAX) {
      report(path, `has more than ${EXTENDS_MAX} parents, extend one of the first`);
      break;
    }
    const above = mapAt(backends, parent);
    merged = { ...above, ...merged };
    parent = textAt(above, "extends");
  }
  return merged;
}

/** Checks of `backends` that need more than one setting: parents, required settings, keys by reference. */
export function checkBackends(root: Tree, report: Report): void {
  const backends = mapAt(root, "backends");
  if (Object.hasOwn(root, "backends") && typeof root["backends"] === "object" && Object.keys(backends).length === 0) {
    report(["backends"], "is empty, add at least one backend", "key");
  }
  for (const name of Object.keys(backends)) {
    checkKey(backends, name, report);
    if (backends[name] === null) continue; // the schema says that it is empty
    let isWhole = true;
    const merged = withParents(backends, name, (path, message, at) => {
      isWhole = false;
      report(path, message, at);
    });
    // What a wrong parent would have given is not missing.
    if (isWhole) checkRequired(name, merged, report);
    checkConcurrency(name, merged, report);
  }
}

function checkRequired(name: string, merged: Tree, report: Report): void {
  const path = ["backends", name];
  const provider = merged["provider"];
  if (provider === undefined) report([...path, "provider"], "is missing, say whose API the backend speaks, e.g. `provider: vllm`", "key");
  if (merged["model"] === undefined) report([...path, "model"], "is missing, write the model's name at the provider", "key");
  if (!isProviderName(provider)) return;
  const facts = PROVIDERS[provider];
  if (facts.url === undefined && merged["url"] === undefined) {
    report([...path, "url"], `is missing, ${provider} has no address that fits everybody: write the base URL its SDK would take`, "key");
  }
  const atDefaultUrl = facts.url !== undefined && (merged["url"] === undefined || merged["url"] === facts.url);
  if (facts.needsKey && atDefaultUrl && merged["key"] === undefined) {
    const variable = `${provider.toUpperCase().replaceAll("-", "_")}_API_KEY`;
    report([...path, "key"], `is missing, ${provider} refuses requests without one: write \`key: \${env:${variable}}\``, "key");
  }
}

function checkKey(backends: Tree, name: string, report: Report): void {
  const key = textAt(backends, name, "key");
  if (key === undefined) return;
  const text = secretText(key);
  if (text.kind === "literal" || (text.kind === "env" && text.fallback !== undefined && text.fallback !== "")) {
    report(["backends", name, "key"], "holds a key in plain text, keep it out of the file: write ${env:NAME} or ${file:PATH}");
  }
}

function checkConcurrency(name: string, merged: Tree, report: Report): void {
  const { min, max } = mapAt(merged, "concurrency");
  if (typeof min === "number" && typeof max === "number" && min > max) {
    report(["backends", name, "concurrency", "min"], `is more than max (${max}), swap them`);
  }
}
