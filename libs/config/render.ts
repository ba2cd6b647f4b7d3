import type { Config } from "./model.ts";
import { Secret } from "./secret.ts";

/** What JSON can say. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** The configuration as plain JSON for people and `/config`: maps are objects, amounts are decimal text, secrets `[redacted]`. */
export function redact(config: Config): Json {
  return plain(config, (secret) => secret.toJSON());
}

function plain(value: unknown, showSecret: (secret: Secret) => string): Json {
  if (value === undefined || value === null) return null;
  if (value instanceof Secret) return showSecret(value);
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return value;
  if (Array.isArray(value) || value instanceof Set) return [...value].map((item) => plain(item, showSecret));
  const entries: Iterable<[string, unknown]> = value instanceof Map ? (value as Map<string, unknown>) : Object.entries(value);
  return Object.fromEntries([...entries].filter(([, item]) => item !== undefined).map(([key, item]) => [key, plain(item, showSecret)]));
}

/** One difference between two configurations. */
export interface ConfigChange {
  /** `models.chat.class`; list positions count from 0. */
  readonly path: string;
  readonly kind: "added" | "removed" | "changed";
  /** As JSON; null where it is absent. */
  readonly before: Json;
  readonly after: Json;
}

/** What changes from `before` to `after`, leaf by leaf, ordered by path. Secrets are compared by where they come from. */
export function diffConfigs(before: Config, after: Config): readonly ConfigChange[] {
  const showSource = (secret: Secret): string => `[redacted ${secret.source}]`;
  return diffJson(plain(before, showSource), plain(after, showSource));
}

/** The same for configurations that are plain JSON already, such as the answer of `/config`. */
export function diffJson(before: Json, after: Json): readonly ConfigChange[] {
  const old = leavesOf(before);
  const current = leavesOf(after);
  const changes: ConfigChange[] = [];
  for (const path of new Set([...old.keys(), ...current.keys()])) {
    const left = old.get(path);
    const right = current.get(path);
    if (path === "configVersion" || left === right) continue;
    const kind = left === undefined ? "added" : right === undefined ? "removed" : "changed";
    changes.push({ path, kind, before: left ?? null, after: right ?? null });
  }
  return changes.toSorted((left, right) => (left.path < right.path ? -1 : 1));
}

type Leaf = string | number | boolean | null;

function leavesOf(root: Json): ReadonlyMap<string, Leaf> {
  const leaves = new Map<string, Leaf>();
  const walk = (value: Json, path: string): void => {
    if (typeof value !== "object" || value === null) {
      leaves.set(path, value);
      return;
    }
    const isList = Array.isArray(value);
    for (const [key, item] of Object.entries(value)) walk(item as Json, isList ? `${path}[${key}]` : path === "" ? key : `${path}.${key}`);
  };
  walk(root, "");
  return leaves;
}
