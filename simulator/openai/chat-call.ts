import type { Call, ToolSpec } from "../engine/call.ts";
import { PromptMeter, tokensOf } from "../engine/tokens.ts";
import { isGiven, isObject, type JsonObject, objectOf, stringOf } from "../http/json.ts";
import type { SimBackendProfile } from "../profile.ts";
import { CHAT_FIELDS, checkFields, typeProblem, valueProblem } from "./fields.ts";
import { type MessagesFacts, readMessages } from "./messages.ts";
import { invalid, type Problem } from "./problem.ts";

/** Reasoning tokens by effort. */
export const EFFORT_TOKENS: Readonly<Record<string, number>> = { none: 0, minimal: 8, low: 16, medium: 48, high: 96, xhigh: 160, max: 240 };

/** Tier an answer shows for the one asked for, where that is not `default`. */
const TIERS_GIVEN: Readonly<Record<string, string>> = { flex: "flex", scale: "scale", priority: "priority", fast: "priority" };

/** Most stop strings. */
const STOPS_MAX = 4;

/** Parameters OpenAI's reasoning models refuse, with what they suggest. */
const REFUSED_BY_REASONING = ["temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias"];

/** Whether a value is a problem rather than a result. */
export function isProblem<T extends object>(value: T | Problem): value is Problem {
  return "status" in value && "message" in value;
}

/** Reads a chat completion request as the backend's provider would, strictly. */
export function readChatCall(body: JsonObject, profile: SimBackendProfile): Call | Problem {
  const { dialect } = profile;
  const problem =
    checkFields(dialect, body, CHAT_FIELDS, ["model", "messages"]) ?? (profile.refusesSampling ? refusedSampling(body) : undefined);
  if (problem) return problem;
  const meter = new PromptMeter();
  const continued = dialect !== "openai" && body["continue_final_message"] === true;
  const facts = readMessages(body["messages"] as unknown[], meter, continued);
  if (isProblem(facts)) return facts;
  if (continued && body["add_generation_prompt"] !== false) {
    return invalid("Cannot set both `continue_final_message` and `add_generation_prompt` to True.", null, null);
  }
  if (facts.images > 0 && !profile.capabilities.includes("vision")) return imageProblem(profile);
  const tools = readTools(body, meter);
  if (isProblem(tools)) return tools;
  const choice = readToolChoice(body["tool_choice"], tools);
  if (typeof choice === "object" && isProblem(choice)) return choice;
  const format = readFormat(body, facts, profile);
  if (typeof format === "object" && "status" in format) return format;
  return callOf(body, profile, { meter, facts, tools, choice, format, continued });
}

interface Pieces {
  readonly meter: PromptMeter;
  readonly facts: MessagesFacts;
  readonly tools: readonly ToolSpec[];
  readonly choice: Call["toolChoice"];
  readonly format: Call["format"];
  readonly continued: boolean;
}

function callOf(body: JsonObject, profile: SimBackendProfile, pieces: Pieces): Call | Problem {
  const { facts } = pieces;
  const stops = readStops(body["stop"]);
  if ("status" in stops) return stops;
  const stream = body["stream"] === true;
  const streamOptions = objectOf(body["stream_options"]);
  if (isObject(body["stream_options"]) && !stream) {
    return invalid("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options", null);
  }
  const topLogprobs = typeof body["top_logprobs"] === "number" ? body["top_logprobs"] : 0;
  if (typeof body["top_logprobs"] === "number" && body["logprobs"] !== true) {
    return invalid("Invalid value for 'top_logprobs': 'top_logprobs' is only allowed when 'logprobs' is enabled.", "top_logprobs", null);
  }
  const effort = stringOf(body["reasoning_effort"]);
  // vLLM states usage whenever stream_options are given at all.
  const impliesUsage = profile.dialect === "vllm" && isObject(body["stream_options"]) && streamOptions["include_usage"] === undefined;
  return {
    model: body["model"] as string,
    stream,
    obfuscates: streamOptions["include_obfuscation"] !== false,
    wantsUsage: streamOptions["include_usage"] === true || impliesUsage,
    choices: numberOr(body["n"], 1),
    serviceTier: TIERS_GIVEN[stringOf(body["service_tier"])],
    maxTokens: (body["max_completion_tokens"] ?? body["max_tokens"] ?? undefined) as number | undefined,
    stops: stops.stops,
    meter: pieces.meter,
    seed: numberOr(body["seed"], 0),
    lastUserText: facts.lastUserText,
    endsWithUser: facts.lastRole === "user",
    tools: pieces.tools,
    toolChoice: pieces.choice,
    parallelTools: body["parallel_tool_calls"] !== false,
    format: pieces.format,
    reasoningTokens: EFFORT_TOKENS[effort] ?? 0,
    prefill: pieces.continued && facts.lastRole === "assistant" ? facts.lastText : undefined,
    priority: numberOr(body["priority"], 0),
    cache: "auto",
    topLogprobs: body["logprobs"] === true ? topLogprobs : -1,
  };
}

function numberOr(value: unknown, otherwise: number): number {
  return typeof value === "number" ? value : otherwise;
}

function refusedSampling(body: JsonObject): Problem | undefined {
  if (isGiven(body["max_tokens"])) {
    const text = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
    return invalid(text, "max_tokens", "unsupported_parameter");
  }
  if (isGiven(body["stop"]))
    return invalid("Unsupported parameter: 'stop' is not supported with this model.", "stop", "unsupported_parameter");
  for (const name of REFUSED_BY_REASONING) {
    const value = body[name];
    if (!isGiven(value) || value === false) continue;
    if (name !== "temperature" && name !== "top_p")
      return invalid(`Unsupported parameter: '${name}' is not supported with this model.`, name, "unsupported_parameter");
    if (value !== 1) {
      const text = `Unsupported value: '${name}' does not support ${JSON.stringify(value)} with this model. Only the default (1) value is supported.`;
      return invalid(text, name, "unsupported_value");
    }
  }
  return undefined;
}

function imageProblem(profile: SimBackendProfile): Problem {
  const text =
    profile.dialect === "openai"
      ? "Invalid content type. image_url is only supported by certain models."
      : `${profile.model} is not a multimodal model`;
  return invalid(text, profile.dialect === "openai" ? "messages.[0].content.[0].type" : null, null);
}

/** The stop strings of a request: one, or up to four. */
export function readStops(stop: unknown): { readonly stops: readonly string[] } | Problem {
  if (stop === undefined || stop === null) return { stops: [] };
  if (typeof stop === "string") return { stops: [stop] };
  if (!Array.isArray(stop)) return typeProblem("stop", "one of a string or array of strings", stop);
  if (stop.length > STOPS_MAX) {
    const text = `Invalid 'stop': array too long. Expected an array with maximum length ${STOPS_MAX}, but got an array with length ${stop.length} instead.`;
    return invalid(text, "stop", "array_above_max_length");
  }
  const odd = stop.findIndex((text) => typeof text !== "string");
  return odd >= 0 ? typeProblem(`stop[${odd}]`, "a string", stop[odd]) : { stops: stop as string[] };
}

function readTools(body: JsonObject, meter: PromptMeter): ToolSpec[] | Problem {
  const tools = body["tools"];
  if (!Array.isArray(tools)) return [];
  if (tools.length === 0)
    return invalid(
      "Invalid 'tools': empty array. Expected an array with minimum length 1, but got an empty array instead.",
      "tools",
      "empty_array",
    );
  const specs: ToolSpec[] = [];
  for (let index = 0; index < tools.length; index++) {
    const tool: unknown = tools[index];
    const at = `tools[${index}]`;
    if (!isObject(tool)) return typeProblem(at, "an object", tool);
    if (tool["type"] !== "function" && tool["type"] !== "custom") {
      return tool["type"] === undefined ? missing(`${at}.type`) : valueProblem(`${at}.type`, tool["type"], ["function", "custom"]);
    }
    const spec = tool[tool["type"]];
    if (!isObject(spec)) return missing(`${at}.${tool["type"]}`);
    if (typeof spec["name"] !== "string") return missing(`${at}.function.name`);
    if (!/^[a-zA-Z0-9_-]{1,64}$/.test(spec["name"])) {
      return invalid(
        `Invalid '${at}.function.name': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.`,
        `${at}.function.name`,
        "invalid_value",
      );
    }
    if (spec["parameters"] !== undefined && !isObject(spec["parameters"]))
      return typeProblem(`${at}.function.parameters`, "an object", spec["parameters"]);
    meter.tokens += tokensOf(JSON.stringify(spec));
    specs.push({ name: spec["name"], parameters: spec["parameters"] ?? {} });
  }
  return specs;
}

function missing(param: string): Problem {
  return invalid(`Missing required parameter: '${param}'.`, param, "missing_required_parameter");
}

function readToolChoice(choice: unknown, tools: readonly ToolSpec[]): Call["toolChoice"] | Problem {
  if (choice === undefined || choice === null) return "auto";
  if (tools.length === 0 && choice !== "none" && choice !== "auto") {
    return invalid("Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.", "tool_choice", null);
  }
  if (choice === "none" || choice === "auto" || choice === "required") return choice;
  if (!isObject(choice)) return valueProblem("tool_choice", choice, ["none", "auto", "required"]);
  if (choice["type"] === "allowed_tools") return objectOf(choice["allowed_tools"])["mode"] === "required" ? "required" : "auto";
  const name = objectOf(choice["function"] ?? choice["custom"])["name"];
  if (typeof name !== "string") return missing("tool_choice.function.name");
  if (!tools.some((tool) => tool.name === name)) {
    return invalid(`Invalid value: 'tool_choice' names the function '${name}', which is not among 'tools'.`, "tool_choice", null);
  }
  return { name };
}

function readFormat(body: JsonObject, facts: MessagesFacts, profile: SimBackendProfile): Call["format"] | Problem {
  const format = body["response_format"];
  if (!isObject(format) || format["type"] === "text") return "text";
  if (format["type"] === "json_object") {
    if (profile.dialect === "openai" && !facts.mentionsJson) {
      return invalid(
        "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
        "messages",
        null,
      );
    }
    return "json_object";
  }
  if (format["type"] !== "json_schema") return valueProblem("response_format.type", format["type"], ["json_object", "json_schema", "text"]);
  const spec = format["json_schema"];
  if (!isObject(spec)) return missing("response_format.json_schema");
  if (typeof spec["name"] !== "string") return missing("response_format.json_schema.name");
  if (!isObject(spec["schema"])) return missing("response_format.json_schema.schema");
  return { schema: spec["schema"] };
}
