import { createRequire } from "node:module";
import type * as Cel from "@bufbuild/cel";
import { Operation, type DecideRequest } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { CAPABILITY_BITS, type Refusal } from "#libs/capability/index.ts";
import type { ClassName, RuleConfig } from "#libs/config/model.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { readingOf, sampleOf } from "./sense.ts";

/** What a matching rule says of one backend. */
export const RULE_FINE = 0;
export const RULE_LABEL = 1;
export const RULE_EXCLUDED = 2;

/** What rules look at of a backend. */
export interface RuleBackend {
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
}

/** A rule as decisions see it. */
export interface CompiledRule {
  readonly name: string;
  /** Whether it applies. An expression that fails on these values (an absent tag) does not apply. */
  readonly applies: (bindings: RuleBindings) => boolean;
  /** By backend index: RULE_FINE, RULE_LABEL (a required label is missing or different) or RULE_EXCLUDED. */
  readonly verdicts: Uint8Array;
  /** Word for RULE_LABEL: `residency` when that label is the one required, else `rule`. */
  readonly requirement: "residency" | "rule";
  readonly class: ClassName | undefined;
  /** What it says of any backend: RULE_FINE, RULE_LABEL or RULE_EXCLUDED. */
  readonly verdictOn: (backend: RuleBackend) => number;
}

/** What expressions may read. */
export interface RuleBindings {
  readonly [name: string]: string | Map<string, string | bigint | boolean | string[]>;
  readonly tags: Map<string, string>;
  readonly request: Map<string, string | bigint | boolean | string[]>;
  readonly tenant: string;
  readonly team: string;
  readonly key: string;
}

/** Longest expression, characters. */
const EXPRESSION_MAX_CHARS = 4_096;

/** Most nodes of an expression: with lists bounded by the ingress, this bounds the steps of an evaluation. */
const EXPRESSION_MAX_NODES = 300;

/** Comprehensions nested in each other: two over sixteen tags are 256 steps, three would be 4,096. */
const NESTED_COMPREHENSIONS_MAX = 2;

/** Longest pattern of `matches`; patterns are constants and the engine is linear in the text. */
const PATTERN_MAX_CHARS = 200;

const NAMES_OF_BITS = Object.entries(CAPABILITY_BITS);
const OPERATION_WORDS = ["chat", "chat", "embeddings", "completions", "responses", "messages"] as const;

/** The language takes some megabytes, and many have no rules: it is loaded with the first one. */
let language: { readonly cel: typeof Cel; readonly environment: Cel.CelEnv } | undefined;

function loadLanguage(): NonNullable<typeof language> {
  if (language !== undefined) return language;
  const cel = createRequire(import.meta.url)("@bufbuild/cel") as typeof Cel;
  return (language = { cel, environment: cel.celEnv() });
}

/** Compiles rules in their order. Throws SignalboxError REQUEST_MALFORMED naming the first rule that does not compile. */
export function compileRules(rules: readonly RuleConfig[], backends: readonly RuleBackend[]): readonly CompiledRule[] {
  return rules.map((rule) => {
    const verdictOn = (backend: RuleBackend): number => verdictOf(rule, backend);
    return {
      name: rule.name,
      applies: compileRule(rule),
      verdicts: Uint8Array.from(backends, verdictOn),
      requirement: rule.require.has("residency") ? "residency" : "rule",
      class: rule.class,
      verdictOn,
    };
  });
}

/** Requirement and words of a verdict that rules a backend out. */
export function ruledOutBy(rule: CompiledRule, verdict: number): Refusal {
  if (verdict === RULE_EXCLUDED) return { requirement: "rule", detail: `excluded by rule ${rule.name}` };
  return { requirement: rule.requirement, detail: `rule ${rule.name} requires other labels` };
}

/** The first rule that applies to a request, for a model by its own name and a class; undefined = none. */
export function ruleFor(
  rules: readonly CompiledRule[],
  request: DecideRequest,
  model: string,
  className: ClassName,
): CompiledRule | undefined {
  if (rules.length === 0) return undefined;
  const bindings = bindingsOf(request, model, className);
  return rules.find((rule) => rule.applies(bindings));
}

/** The values expressions read. Tokens are CEL ints. */
export function bindingsOf(request: DecideRequest, model: string, className: ClassName): RuleBindings {
  const needs: string[] = [];
  for (const [name, bit] of NAMES_OF_BITS) if ((request.needs & (1 << bit)) !== 0) needs.push(name);
  return {
    tags: new Map(Object.entries(request.tags)),
    request: new Map<string, string | bigint | boolean | string[]>([
      ["model", model],
      ["class", className],
      ["operation", OPERATION_WORDS[request.operation] ?? OPERATION_WORDS[Operation.CHAT]],
      ["input_tokens", BigInt(request.inputTokens)],
      ["max_output_tokens", BigInt(request.maxOutputTokens)],
      ["stream", request.stream],
      ["needs", needs],
    ]),
    tenant: request.tenant,
    team: request.team,
    key: request.keyId,
  };
}

function verdictOf(rule: Pick<RuleConfig, "exclude" | "require">, backend: RuleBackend): number {
  if (rule.exclude.includes(backend.name)) return RULE_EXCLUDED;
  for (const [label, value] of rule.require) if (backend.labels.get(label) !== value) return RULE_LABEL;
  return RULE_FINE;
}

/** What is wrong with an expression, or undefined: also names and types that would keep its rule from ever applying. */
export function checkRule(when: string): string | undefined {
  try {
    const { evaluate, parsed } = parseExpression(when);
    const { wrong, tags } = readingOf(parsed.expr);
    return wrong ?? mistakeIn(evaluate(sampleOf(tags)));
  } catch (cause) {
    return cause instanceof Error ? cause.message : String(cause);
  }
}

/** Errors that lie in the expression whatever the request: all values always have the same types. */
const TYPE_ERROR = /unbound function|no matching overload|type mismatch/;

function mistakeIn(value: unknown): string | undefined {
  const { cel } = loadLanguage();
  if (cel.isCelError(value)) return TYPE_ERROR.test(value.message) ? value.message : undefined;
  return typeof value === "boolean" ? undefined : "is neither true nor false";
}

function compileRule(rule: RuleConfig): (bindings: RuleBindings) => boolean {
  try {
    return compileExpression(rule.when);
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    throw new SignalboxError("REQUEST_MALFORMED", `rules: ${rule.name}: ${text}`, { param: `rules.${rule.name}.when`, cause });
  }
}

function parseExpression(when: string): {
  readonly parsed: ReturnType<typeof Cel.parse>;
  readonly evaluate: (bindings: RuleBindings) => unknown;
} {
  if (when.length > EXPRESSION_MAX_CHARS) throw new Error(`longer than ${EXPRESSION_MAX_CHARS} characters`);
  const { cel, environment } = loadLanguage();
  const parsed = cel.parse(expandUnits(when));
  measure(parsed.expr, 0, { left: EXPRESSION_MAX_NODES });
  return { parsed, evaluate: cel.plan(environment, parsed) };
}

function compileExpression(when: string): (bindings: RuleBindings) => boolean {
  const { cel } = loadLanguage();
  const { evaluate } = parseExpression(when);
  return (bindings) => {
    const value = evaluate(bindings);
    return !cel.isCelError(value) && value === true;
  };
}

/** Token counts may be written 100k and 2M, as elsewhere in the configuration; text in quotes stays. */
function expandUnits(expression: string): string {
  return expression.replace(
    /("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|\b(\d+)([kM])\b/g,
    (whole, quoted: string | undefined, digits: string, unit: string) =>
      quoted === undefined ? `${digits}${unit === "k" ? "000" : "000000"}` : whole,
  );
}

/** Walks a parsed expression and throws when it could take too many steps. Messages are plain objects, so the walk is generic. */
function measure(node: unknown, nested: number, budget: { left: number }): void {
  if (typeof node !== "object" || node === null) return;
  if (Array.isArray(node)) {
    for (const each of node) measure(each, nested, budget);
    return;
  }
  const record = node as { readonly [field: string]: unknown };
  let depth = nested;
  if (record["$typeName"] === "cel.expr.Expr" && --budget.left < 0) throw new Error(`more than ${EXPRESSION_MAX_NODES} terms`);
  if (record["$typeName"] === "cel.expr.Expr.Comprehension" && ++depth > NESTED_COMPREHENSIONS_MAX) {
    throw new Error(`more than ${NESTED_COMPREHENSIONS_MAX} comprehensions nested`);
  }
  if (record["$typeName"] === "cel.expr.Expr.Call" && record["function"] === "matches") checkPattern(record["args"]);
  for (const key of Object.keys(record)) measure(record[key], depth, budget);
}

function checkPattern(args: unknown): void {
  const last: unknown = Array.isArray(args) ? args.at(-1) : undefined;
  const kind = (last as { exprKind?: { case?: string; value?: { constantKind?: { case?: string; value?: unknown } } } } | undefined)
    ?.exprKind;
  const pattern =
    kind?.case === "constExpr" && kind.value?.constantKind?.case === "stringValue" ? kind.value.constantKind.value : undefined;
  if (typeof pattern !== "string") throw new Error("matches() takes a constant pattern only");
  if (pattern.length > PATTERN_MAX_CHARS || /\{\d{2,}/.test(pattern)) throw new Error("the pattern of matches() is too large");
}
