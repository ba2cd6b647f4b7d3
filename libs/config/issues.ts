import type { z } from "zod";
import { nearest, suggestion } from "./nearest.ts";
import { shown, type ConfigPath, type Finding } from "./problems.ts";
import { isSecretPath } from "./references.ts";

type Issue = z.core.$ZodIssue;

/** Turns the schema's issues into findings in this product's words. */
export function findingsOf(issues: readonly Issue[], root: unknown, keysAt: (path: ConfigPath) => readonly string[]): readonly Finding[] {
  return issues.flatMap((issue) => fromIssue(issue, [], root, keysAt));
}

function fromIssue(issue: Issue, prefix: ConfigPath, root: unknown, keysAt: (path: ConfigPath) => readonly string[]): readonly Finding[] {
  const path: ConfigPath = [...prefix, ...issue.path.map((part) => (typeof part === "number" ? part : String(part)))];
  const value = valueAt(root, path);
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({
      path: [...path, key],
      at: "key",
      message: `is not a setting, ${unknownKeyHelp(key, keysAt(path))}`,
    }));
  }
  if (issue.code === "invalid_key") {
    const message = issue.issues[0]?.message ?? "is not a name";
    return [{ path, at: "key", message }];
  }
  if (value === undefined) return [{ path, message: "is missing, add it" }];
  if (value === null) return [{ path, at: "key", message: "is empty, give it a value or remove the line" }];
  if (issue.code === "invalid_union") {
    const branch = issue.errors.find((errors) =>
      errors.some((error) => error.path.length > 0 || error.code === "custom" || error.code === "unrecognized_keys"),
    );
    if (branch) return branch.flatMap((error) => fromIssue(error, path, root, keysAt));
  }
  return [{ path, message: valueMessage(issue, value, isSecretPath(path)) }];
}

function unknownKeyHelp(key: string, known: readonly string[]): string {
  return key === "<<" ? "merge keys are not read: use `extends`" : suggestion(key, known);
}

function valueMessage(issue: Issue, value: unknown, secret: boolean): string {
  const given = secret || typeof value === "object" ? "" : `${shown(value)} `;
  if (issue.code === "invalid_value") {
    const near = nearest(String(value), issue.values.map(String));
    const all = `use one of ${issue.values.map(String).join(", ")}`;
    // A literal's own message says more than the list of its one value.
    if (issue.values.length === 1) return `${given}${issue.message}`;
    return `${given}is not one of the choices, ${near === undefined ? all : `did you mean "${near}"? (${all})`}`;
  }
  if (issue.code === "invalid_type") return `${given}${wantedType(issue.expected, value, issue.message)}`;
  return `${given}${issue.message}`;
}

function wantedType(expected: string, value: unknown, message: string): string {
  if (expected === "object" || expected === "record")
    return `must be a mapping of settings, not ${Array.isArray(value) ? "a list" : "a single value"}`;
  if (expected === "array") return "must be a list, write [a, b]";
  return message.startsWith("Invalid input") ? `must be of type ${expected}` : message;
}

function valueAt(root: unknown, path: ConfigPath): unknown {
  let value = root;
  for (const part of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<string | number, unknown>)[part];
  }
  return value;
}
