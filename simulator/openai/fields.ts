import { isObject, type JsonObject, typeWithArticle } from "../http/json.ts";
import type { SimDialect } from "../profile.ts";
import { invalid, type Problem } from "./problem.ts";

/** What a field must be. */
export type FieldRule =
  | { readonly is: "integer" | "number"; readonly min?: number; readonly max?: number }
  | { readonly is: "boolean" | "object" | "array" | "any" }
  | { readonly is: "string"; readonly oneOf?: readonly string[] };

const EFFORTS = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/** Fields of a chat completion request, all nullable but `messages` and `model`. */
export const CHAT_FIELDS: Readonly<Record<string, FieldRule>> = {
  messages: { is: "array" },
  model: { is: "string" },
  audio: { is: "object" },
  frequency_penalty: { is: "number", min: -2, max: 2 },
  function_call: { is: "any" },
  functions: { is: "array" },
  logit_bias: { is: "object" },
  logprobs: { is: "boolean" },
  max_completion_tokens: { is: "integer", min: 1 },
  max_tokens: { is: "integer", min: 1 },
  metadata: { is: "object" },
  modalities: { is: "array" },
  moderation: { is: "object" },
  n: { is: "integer", min: 1, max: 128 },
  parallel_tool_calls: { is: "boolean" },
  prediction: { is: "object" },
  presence_penalty: { is: "number", min: -2, max: 2 },
  prompt_cache_key: { is: "string" },
  prompt_cache_options: { is: "object" },
  prompt_cache_retention: { is: "string" },
  reasoning_effort: { is: "string", oneOf: EFFORTS },
  response_format: { is: "object" },
  safety_identifier: { is: "string" },
  seed: { is: "integer" },
  service_tier: { is: "string", oneOf: ["auto", "default", "flex", "scale", "priority", "fast"] },
  stop: { is: "any" },
  store: { is: "boolean" },
  stream: { is: "boolean" },
  stream_options: { is: "object" },
  temperature: { is: "number", min: 0, max: 2 },
  tool_choice: { is: "any" },
  tools: { is: "array" },
  top_logprobs: { is: "integer", min: 0, max: 20 },
  top_p: { is: "number", min: 0, max: 1 },
  user: { is: "string" },
  verbosity: { is: "string", oneOf: ["low", "medium", "high"] },
  web_search_options: { is: "object" },
};

/** Fields of a legacy completion request. */
export const COMPLETION_FIELDS: Readonly<Record<string, FieldRule>> = {
  model: { is: "string" },
  prompt: { is: "any" },
  best_of: { is: "integer", min: 1, max: 20 },
  echo: { is: "boolean" },
  frequency_penalty: { is: "number", min: -2, max: 2 },
  logit_bias: { is: "object" },
  logprobs: { is: "integer", min: 0, max: 5 },
  max_tokens: { is: "integer", min: 0 },
  n: { is: "integer", min: 1, max: 128 },
  presence_penalty: { is: "number", min: -2, max: 2 },
  seed: { is: "integer" },
  stop: { is: "any" },
  stream: { is: "boolean" },
  stream_options: { is: "object" },
  suffix: { is: "string" },
  temperature: { is: "number", min: 0, max: 2 },
  top_p: { is: "number", min: 0, max: 1 },
  user: { is: "string" },
};

/** Fields of an embeddings request. */
export const EMBEDDING_FIELDS: Readonly<Record<string, FieldRule>> = {
  input: { is: "any" },
  model: { is: "string" },
  dimensions: { is: "integer", min: 1 },
  encoding_format: { is: "string", oneOf: ["float", "base64"] },
  user: { is: "string" },
};

/** Checks every field; OpenAI refuses unknown ones, engines ignore them. Undefined = fine. */
export function checkFields(
  dialect: SimDialect,
  body: JsonObject,
  rules: Readonly<Record<string, FieldRule>>,
  required: readonly string[],
): Problem | undefined {
  const describe = dialect === "openai" ? openaiProblem : engineProblem;
  for (const name of required)
    if (body[name] === undefined) return describe({ kind: "missing", param: name, got: undefined, rule: { is: "any" } });
  for (const name in body) {
    const value = body[name];
    const rule = rules[name];
    if (!rule) {
      if (dialect === "openai") return invalid(`Unrecognized request argument supplied: ${name}`, null, null);
      continue;
    }
    if (value === null && !required.includes(name)) continue;
    const kind = violated(rule, value);
    if (kind) return describe({ kind, param: name, got: value, rule });
  }
  return undefined;
}

interface Violation {
  readonly kind: "missing" | "type" | "value" | "above" | "below";
  readonly param: string;
  readonly got: unknown;
  readonly rule: FieldRule;
}

function violated(rule: FieldRule, value: unknown): Violation["kind"] | undefined {
  switch (rule.is) {
    case "integer":
    case "number":
      if (typeof value !== "number" || (rule.is === "integer" && !Number.isInteger(value))) return "type";
      if (rule.max !== undefined && value > rule.max) return "above";
      return rule.min !== undefined && value < rule.min ? "below" : undefined;
    case "boolean":
      return typeof value === "boolean" ? undefined : "type";
    case "string":
      if (typeof value !== "string") return "type";
      return rule.oneOf && !rule.oneOf.includes(value) ? "value" : undefined;
    case "object":
      return isObject(value) ? undefined : "type";
    case "array":
      return Array.isArray(value) ? undefined : "type";
    case "any":
      return undefined;
  }
}

function openaiProblem({ kind, param, got, rule }: Violation): Problem {
  const word = rule.is === "integer" ? "integer" : "decimal";
  switch (kind) {
    case "missing":
      return invalid(
        param === "model" ? "you must provide a model parameter" : `Missing required parameter: '${param}'.`,
        param === "model" ? null : param,
        param === "model" ? null : "missing_required_parameter",
      );
    case "type":
      return typeProblem(param, rule.is === "number" ? "a decimal" : `${"aeiou".includes(rule.is[0]!) ? "an" : "a"} ${rule.is}`, got);
    case "value":
      return invalid(
        `Invalid value: '${String(got)}'. Supported values are: ${listed("oneOf" in rule ? (rule.oneOf ?? []) : [])}.`,
        param,
        "invalid_value",
      );
    case "above":
      return invalid(
        `Invalid '${param}': ${word} above maximum value. Expected a value <= ${bound(rule, "max")}, but got ${String(got)} instead.`,
        param,
        `${word}_above_max_value`,
      );
    case "below":
      return invalid(
        `Invalid '${param}': ${word} below minimum value. Expected a value >= ${bound(rule, "min")}, but got ${String(got)} instead.`,
        param,
        `${word}_below_min_value`,
      );
  }
}

/** OpenAI's words for a value of the wrong type. `expected` has its article. */
export function typeProblem(param: string, expected: string, got: unknown): Problem {
  return invalid(`Invalid type for '${param}': expected ${expected}, but got ${typeWithArticle(got)} instead.`, param, "invalid_type");
}

/** OpenAI's words for a value outside a list. */
export function valueProblem(param: string, got: unknown, allowed: readonly string[]): Problem {
  return invalid(`Invalid value: '${String(got)}'. Supported values are: ${listed(allowed)}.`, param, "invalid_value");
}

function listed(words: readonly string[]): string {
  const quoted = words.map((word) => `'${word}'`);
  return quoted.length < 3 ? quoted.join(" and ") : `${quoted.slice(0, -1).join(", ")}, and ${quoted.at(-1)!}`;
}

function bound(rule: FieldRule, which: "min" | "max"): number {
  return which in rule ? ((rule as { min?: number; max?: number })[which] ?? 0) : 0;
}

const PYDANTIC: Readonly<Record<string, readonly [string, string]>> = {
  integer: ["int_type", "Input should be a valid integer"],
  number: ["float_type", "Input should be a valid number"],
  boolean: ["bool_type", "Input should be a valid boolean"],
  string: ["string_type", "Input should be a valid string"],
  object: ["dict_type", "Input should be a valid dictionary"],
  array: ["list_type", "Input should be a valid list"],
};

/** The engines are Python servers whose messages are pydantic's list of errors. */
function engineProblem({ kind, param, got, rule }: Violation): Problem {
  const [type, text] =
    kind === "missing"
      ? (["missing", "Field required"] as const)
      : kind === "above"
        ? (["less_than_equal", `Input should be less than or equal to ${bound(rule, "max")}`] as const)
        : kind === "below"
          ? (["greater_than_equal", `Input should be greater than or equal to ${bound(rule, "min")}`] as const)
          : kind === "value"
            ? (["literal_error", "Input should be one of the allowed values"] as const)
            : (PYDANTIC[rule.is] ?? (["value_error", "Value error"] as const));
  return invalid(
    `[{'type': '${type}', 'loc': ('body', '${param}'), 'msg': '${text}', 'input': ${JSON.stringify(got) ?? "None"}}]`,
    param,
    null,
  );
}
