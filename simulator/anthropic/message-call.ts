import type { CacheBreakpoint, Call, ToolSpec } from "../engine/call.ts";
import { PromptMeter, tokensOf } from "../engine/tokens.ts";
import { isObject, type JsonObject, objectOf, stringOf } from "../http/json.ts";
import type { SimBackendProfile } from "../profile.ts";
import { readAnthropicMessages } from "./messages.ts";
import { type AnthropicProblem, refused } from "./problem.ts";

/** API versions it knows. */
export const ANTHROPIC_VERSIONS = ["2023-06-01", "2026-10-21"];

/** Version that refuses sampling parameters. */
const WITHOUT_SAMPLING = "2026-10-21";

/** Least thinking budget, tokens. */
const THINKING_MIN = 1024;

/** Most points a prompt may be cached at. */
const BREAKPOINTS_MAX = 4;

type Check = readonly [test: (value: unknown) => boolean, message: string];
const INTEGER: Check = [Number.isInteger, "Input should be a valid integer"];
const NUMBER: Check = [(value) => typeof value === "number", "Input should be a valid number"];
const STRING: Check = [(value) => typeof value === "string", "Input should be a valid string"];
const BOOLEAN: Check = [(value) => typeof value === "boolean", "Input should be a valid boolean"];
const LIST: Check = [Array.isArray, "Input should be a valid list"];
const OBJECT: Check = [isObject, "Input should be an object"];
const ANY: Check = [() => true, ""];
const oneOf = (...words: string[]): Check => [
  (value) => words.includes(String(value)),
  `Input should be ${words.map((word) => `'${word}'`).join(" or ")}`,
];

const FIELDS: Readonly<Record<string, Check>> = {
  model: STRING,
  messages: LIST,
  max_tokens: INTEGER,
  system: [(value) => typeof value === "string" || Array.isArray(value), "Input should be a valid list"],
  stop_sequences: LIST,
  stream: BOOLEAN,
  temperature: NUMBER,
  top_p: NUMBER,
  top_k: INTEGER,
  thinking: OBJECT,
  tool_choice: OBJECT,
  tools: LIST,
  metadata: OBJECT,
  output_config: OBJECT,
  output_format: OBJECT,
  service_tier: oneOf("auto", "standard_only"),
  speed: oneOf("standard", "fast"),
  cache_control: OBJECT,
  container: ANY,
  context_management: OBJECT,
  inference_geo: STRING,
  diagnostics: ANY,
  user_profile_id: STRING,
  workspace_id: STRING,
  mcp_servers: LIST,
};

/** Whether a value is a problem rather than a result. */
export function isRefusal<T extends object>(value: T | AnthropicProblem): value is AnthropicProblem {
  return "status" in value && "type" in value && "message" in value;
}

/** Reads a Messages request as Anthropic would. `counting`: `max_tokens` is not needed, nothing will be answered. */
export function readMessageCall(body: JsonObject, version: string, profile: SimBackendProfile, counting: boolean): Call | AnthropicProblem {
  const problem = checkBody(body, version, profile, counting);
  if (problem) return problem;
  const meter = new PromptMeter();
  const points: CacheBreakpoint[] = [];
  const mark = (holder: JsonObject): void => {
    if (!isObject(holder["cache_control"])) return;
    points.push({ tokens: meter.tokens, characters: meter.text.length, ttl: holder["cache_control"]["ttl"] === "1h" ? "1h" : "5m" });
  };
  const tools = readTools(body["tools"], meter, mark);
  if (isRefusal(tools)) return tools;
  const systemProblem = readSystem(body["system"], meter, mark);
  if (systemProblem) return systemProblem;
  const facts = readAnthropicMessages(body["messages"] as unknown[], meter, mark, profile);
  if (isRefusal(facts)) return facts;
  mark(body);
  if (points.length > BREAKPOINTS_MAX)
    return refused(`A maximum of ${BREAKPOINTS_MAX} blocks with cache_control may be provided. Found ${points.length}.`);
  const choice = readToolChoice(body["tool_choice"], tools);
  if (typeof choice === "object" && "status" in choice) return choice;
  const thinking = thinkingTokens(body);
  const format = objectOf(objectOf(body["output_config"])["format"] ?? body["output_format"]);
  return {
    model: body["model"] as string,
    stream: body["stream"] === true,
    wantsUsage: true,
    obfuscates: true,
    choices: 1,
    maxTokens: body["max_tokens"] as number | undefined,
    stops: (body["stop_sequences"] as string[] | undefined) ?? [],
    meter,
    serviceTier: undefined,
    seed: 0,
    lastUserText: facts.lastUserText,
    endsWithUser: facts.endsWithUser,
    tools,
    toolChoice: choice,
    parallelTools: objectOf(body["tool_choice"])["disable_parallel_tool_use"] !== true,
    format: format["type"] === "json_schema" ? { schema: format["schema"] } : "text",
    reasoningTokens: thinking,
    prefill: facts.prefill,
    priority: 0,
    cache: points,
    topLogprobs: -1,
  };
}

function checkBody(body: JsonObject, version: string, profile: SimBackendProfile, counting: boolean): AnthropicProblem | undefined {
  for (const name of counting ? ["messages", "model"] : ["max_tokens", "messages", "model"]) {
    if (body[name] === undefined) return refused(`${name}: Field required`);
  }
  for (const name in body) {
    const check = FIELDS[name];
    if (!check) return refused(`${name}: Extra inputs are not permitted`);
    if (!check[0](body[name])) return refused(`${name}: ${check[1]}`);
  }
  for (const name of ["temperature", "top_p", "top_k"]) {
    if (body[name] !== undefined && version >= WITHOUT_SAMPLING)
      return refused(`${name}: this parameter is not supported in API version ${WITHOUT_SAMPLING} or later.`);
  }
  const thinking = objectOf(body["thinking"]);
  return checkNumbers(body, profile) ?? checkThinking(thinking, body);
}

function checkNumbers(body: JsonObject, profile: SimBackendProfile): AnthropicProblem | undefined {
  const {
    temperature,
    top_p: topP,
    max_tokens: maxTokens,
    stop_sequences: stops,
  } = body as { temperature?: number; top_p?: number; max_tokens?: number; stop_sequences?: unknown[] };
  if (temperature !== undefined && (temperature < 0 || temperature > 1)) return refused("temperature: range: 0..1");
  if (topP !== undefined && (topP < 0 || topP > 1)) return refused("top_p: range: 0..1");
  if (maxTokens !== undefined && maxTokens < 1) return refused("max_tokens: Input should be greater than or equal to 1");
  if (maxTokens !== undefined && maxTokens > profile.maxOutputTokens) {
    return refused(
      `max_tokens: ${maxTokens} > ${profile.maxOutputTokens}, which is the maximum allowed number of output tokens for ${profile.model}`,
    );
  }
  for (const [index, stop] of (stops ?? []).entries()) {
    if (typeof stop !== "string") return refused(`stop_sequences.${index}: Input should be a valid string`);
    if (stop.trim() === "") return refused("stop_sequences: each stop sequence must contain non-whitespace");
  }
  return undefined;
}

function checkThinking(thinking: JsonObject, body: JsonObject): AnthropicProblem | undefined {
  if (thinking["type"] === undefined && body["thinking"] !== undefined) return refused("thinking.type: Field required");
  if (thinking["type"] !== "enabled") return undefined;
  const budget = thinking["budget_tokens"];
  if (!Number.isInteger(budget)) return refused("thinking.enabled.budget_tokens: Field required");
  if ((budget as number) < THINKING_MIN)
    return refused(`thinking.enabled.budget_tokens: Input should be greater than or equal to ${THINKING_MIN}`);
  if (typeof body["max_tokens"] === "number" && body["max_tokens"] <= (budget as number)) {
    return refused(
      "`max_tokens` must be greater than `thinking.budget_tokens`. Please consult our documentation at https://docs.claude.com/en/docs/build-with-claude/extended-thinking#max-tokens-and-context-window-size",
    );
  }
  if (typeof body["temperature"] === "number" && body["temperature"] !== 1) {
    return refused(
      "`temperature` may only be set to 1 when thinking is enabled. Please consult our documentation at https://docs.claude.com/en/docs/build-with-claude/extended-thinking",
    );
  }
  return undefined;
}

/** Tokens spent thinking: a little, however large the budget; adaptive thinking follows the effort. */
function thinkingTokens(body: JsonObject): number {
  const type = objectOf(body["thinking"])["type"];
  if (type === "enabled") return 24;
  if (type !== "adaptive" && type !== "between_tools") return 0;
  const efforts: Readonly<Record<string, number>> = { low: 8, medium: 24, high: 48, xhigh: 96, max: 160 };
  return efforts[stringOf(objectOf(body["output_config"])["effort"])] ?? 24;
}

function readSystem(system: unknown, meter: PromptMeter, mark: (holder: JsonObject) => void): AnthropicProblem | undefined {
  if (system === undefined) return undefined;
  meter.message();
  if (typeof system === "string") {
    meter.add(system);
    return undefined;
  }
  for (const [index, block] of (system as unknown[]).entries()) {
    if (!isObject(block) || block["type"] !== "text") return refused(`system.${index}.type: Input should be 'text'`);
    if (typeof block["text"] !== "string") return refused(`system.${index}.text: Field required`);
    if (block["text"] === "") return refused("system: text content blocks must be non-empty");
    meter.add(block["text"]);
    mark(block);
  }
  return undefined;
}

function readTools(tools: unknown, meter: PromptMeter, mark: (holder: JsonObject) => void): ToolSpec[] | AnthropicProblem {
  const specs: ToolSpec[] = [];
  for (const [index, tool] of ((tools as unknown[] | undefined) ?? []).entries()) {
    if (!isObject(tool)) return refused(`tools.${index}: Input should be an object`);
    if (typeof tool["name"] !== "string") return refused(`tools.${index}.custom.name: Field required`);
    if (!/^[a-zA-Z0-9_-]{1,128}$/.test(tool["name"]))
      return refused(`tools.${index}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'`);
    const isCustom = tool["type"] === undefined || tool["type"] === "custom";
    if (isCustom && !isObject(tool["input_schema"])) return refused(`tools.${index}.custom.input_schema: Field required`);
    if (isCustom && objectOf(tool["input_schema"])["type"] !== "object")
      return refused(`tools.${index}.custom.input_schema.type: Field required`);
    if (specs.some((spec) => spec.name === tool["name"])) return refused("tools: Tool names must be unique.");
    meter.tokens += tokensOf(JSON.stringify([tool["name"], tool["description"], tool["input_schema"]]));
    mark(tool);
    specs.push({ name: tool["name"], parameters: tool["input_schema"] ?? {} });
  }
  return specs;
}

function readToolChoice(choice: unknown, tools: readonly ToolSpec[]): Call["toolChoice"] | AnthropicProblem {
  if (choice === undefined) return "auto";
  const { type, name } = objectOf(choice);
  if (tools.length === 0) return refused("tool_choice: Tools must be provided when tool_choice is set.");
  if (type === "auto" || type === "none") return type;
  if (type === "any") return "required";
  if (type !== "tool")
    return refused(
      `tool_choice: Input tag '${String(type)}' found using 'type' does not match any of the expected tags: 'auto', 'any', 'tool', 'none'`,
    );
  if (typeof name !== "string") return refused("tool_choice.tool.name: Field required");
  return tools.some((tool) => tool.name === name) ? { name } : refused(`tool_choice.name: Tool '${name}' not found in provided tools`);
}
