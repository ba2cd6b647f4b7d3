import { nearest } from "#libs/config/index.ts";
import type { RuleBindings } from "./rules.ts";

/** A request's values as expressions see them: all requests have these, of these types. */
const REQUEST: RuleBindings["request"] = new Map<string, string | bigint | boolean | string[]>([
  ["model", ""],
  ["class", ""],
  ["operation", ""],
  ["input_tokens", 1n],
  ["max_output_tokens", 1n],
  ["stream", true],
  ["needs", ["tools"]],
]);

/** Names that expressions may read, and what there is of a request. */
const NAMES: ReadonlySet<string> = new Set(["tags", "request", "tenant", "team", "key"]);
const REQUEST_FIELDS: ReadonlySet<string> = new Set(REQUEST.keys());

/** The language's own names of types. */
const TYPES: ReadonlySet<string> = new Set(["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"]);

/** The values of some request that has these tags. */
export function sampleOf(tags: ReadonlySet<string>): RuleBindings {
  return { tags: new Map([...tags].map((name) => [name, name])), request: REQUEST, tenant: "", team: "", key: "" };
}

/** What an expression reads. */
export interface Reading {
  /** Of `tags`. */
  readonly tags: ReadonlySet<string>;
  /** What is wrong with a name; undefined = nothing. */
  readonly wrong: string | undefined;
}

/**
 * Looks up every name of a parsed expression. One that does not exist would make the expression fail on each request, so that its rule
 * never applies: nobody would notice that data leaves the region it was to stay in.
 */
export function readingOf(expression: unknown): Reading {
  const found = { tags: new Set<string>(), local: new Set<string>(), names: new Set<string>(), fields: new Set<string>() };
  walk(expression, found);
  const known = new Set([...NAMES, ...TYPES, ...found.local]);
  for (const name of found.names) if (!known.has(name)) return { tags: found.tags, wrong: unknown(name, NAMES) };
  for (const field of found.fields) {
    if (!REQUEST_FIELDS.has(field)) return { tags: found.tags, wrong: unknown(`request.${field}`, prefixed("request.", REQUEST_FIELDS)) };
  }
  return { tags: found.tags, wrong: undefined };
}

interface Found {
  readonly tags: Set<string>;
  /** Variables of comprehensions. */
  readonly local: Set<string>;
  readonly names: Set<string>;
  /** Of `request`. */
  readonly fields: Set<string>;
}

/** Messages are plain objects, so the walk is generic. */
function walk(node: unknown, found: Found): void {
  if (typeof node !== "object" || node === null) return;
  if (Array.isArray(node)) {
    for (const each of node) walk(each, found);
    return;
  }
  const record = node as { readonly [field: string]: unknown };
  switch (record["$typeName"]) {
    case "cel.expr.Expr.Ident":
      found.names.add(String(record["name"]));
      break;
    case "cel.expr.Expr.Select": {
      const of = identOf(record["operand"]);
      if (of === "request") found.fields.add(String(record["field"]));
      if (of === "tags") found.tags.add(String(record["field"]));
      break;
    }
    case "cel.expr.Expr.Comprehension":
      for (const name of ["iterVar", "iterVar2", "accuVar"]) found.local.add(String(record[name]));
      break;
    default:
  }
  for (const key of Object.keys(record)) walk(record[key], found);
}

function identOf(node: unknown): string | undefined {
  const kind = (node as { exprKind?: { case?: string; value?: { name?: string } } } | undefined)?.exprKind;
  return kind?.case === "identExpr" ? kind.value?.name : undefined;
}

function unknown(name: string, known: ReadonlySet<string>): string {
  const near = nearest(name, known);
  return `there is no "${name}", ${near === undefined ? `use ${[...known].join(", ")}` : `did you mean "${near}"?`}`;
}

function prefixed(prefix: string, names: ReadonlySet<string>): ReadonlySet<string> {
  return new Set([...names].map((name) => prefix + name));
}
