import { SignalboxError } from "#libs/errors/index.ts";
import { MESSAGES_MAX, MODEL_NAME_MAX, TOOLS_MAX } from "../limits.ts";
import { isObject, type JsonObject } from "./parse.ts";

/** Service tiers a caller may name (decision 20 says where each leads). */
export type ServiceTier = "auto" | "default" | "flex" | "scale" | "priority" | "fast";

/** What the gateway acts on in a chat request; everything else passes through untouched. */
export interface ChatRequest {
  readonly model: string;
  readonly messages: readonly JsonObject[];
  readonly stream: boolean;
  readonly includeUsage: boolean;
  /** 0 = none given. */
  readonly maxOutputTokens: number;
  readonly n: number;
  readonly logprobs: boolean;
  readonly tools: readonly JsonObject[];
  readonly responseFormat: "text" | "json_object" | "json_schema";
  readonly audioOutput: boolean;
  readonly serviceTier: ServiceTier | undefined;
  readonly metadata: Readonly<Record<string, string>>;
  /** Whether the caller asked for the same answer every time: temperature 0 or a seed, and no tools. */
  readonly deterministic: boolean;
  /** `user`, else `safety_identifier`; empty = none. */
  readonly user: string;
}

const ROLES = new Set(["developer", "system", "user", "assistant", "tool", "function"]);
const TIERS = new Set(["auto", "default", "flex", "scale", "priority", "fast"]);
const FORMATS = new Set(["text", "json_object", "json_schema"]);

/** Fields by which other gateways let callers choose a destination or credential: here only the configuration does. */
const DESTINATION_FIELDS = ["api_base", "base_url", "api_key", "custom_llm_provider", "extra_headers", "proxy"];

/** Ranges of numeric parameters, as the OpenAI reference gives them. */
const RANGES: readonly (readonly [name: string, least: number, most: number, integer: boolean])[] = [
  ["temperature", 0, 2, false],
  ["top_p", 0, 1, false],
  ["frequency_penalty", -2, 2, false],
  ["presence_penalty", -2, 2, false],
  ["n", 1, 128, true],
  ["top_logprobs", 0, 20, true],
  ["max_tokens", 1, 100_000_000, true],
  ["max_completion_tokens", 1, 100_000_000, true],
  ["seed", Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, false],
];

const BOOLEANS = ["stream", "logprobs", "parallel_tool_calls", "store"];
const STRINGS = ["user", "safety_identifier", "reasoning_effort", "verbosity", "prompt_cache_key", "prompt_cache_retention"];
const OBJECTS = [
  "stream_options",
  "response_format",
  "audio",
  "logit_bias",
  "prediction",
  "web_search_options",
  "prompt_cache_options",
  "moderation",
];

/** Bounds of `metadata` (OpenAI reference). */
const METADATA_MAX = 16;
const METADATA_KEY_MAX = 64;
const METADATA_VALUE_MAX = 512;

function invalid(param: string, message: string): SignalboxError {
  return new SignalboxError("REQUEST_MALFORMED", message, { param });
}

/**
 * Checks the fields the gateway acts on and reads them. Shallow by design: unknown fields pass, null counts as absent.
 * Throws REQUEST_MALFORMED `invalid_value` or FEATURE_UNSUPPORTED with the parameter's name.
 */
export function readChat(body: JsonObject): ChatRequest {
  const model = readModel(body);
  refuseDestinations(body);
  for (const [name, least, most, integer] of RANGES) checkNumber(body, name, least, most, integer);
  for (const name of BOOLEANS) checkType(body, name, "boolean");
  for (const name of STRINGS) checkType(body, name, "string");
  for (const name of OBJECTS) {
    const value = body[name] ?? undefined;
    if (value !== undefined && !isObject(value)) throw invalid(name, `'${name}' must be an object.`);
  }
  checkStop(body["stop"] ?? undefined);
  const messages = readMessages(body["messages"]);
  const stream = body["stream"] === true;
  const tools = readTools(body);
  return {
    model,
    messages,
    stream,
    includeUsage: readIncludeUsage(body["stream_options"], stream),
    maxOutputTokens: ((body["max_completion_tokens"] ?? body["max_tokens"]) as number | null | undefined) ?? 0,
    n: (body["n"] as number | null | undefined) ?? 1,
    logprobs: body["logprobs"] === true,
    tools,
    responseFormat: readFormat(body["response_format"]),
    audioOutput: readModalities(body["modalities"] ?? undefined),
    serviceTier: readTier(body["service_tier"] ?? undefined),
    deterministic: tools.length === 0 && (body["temperature"] === 0 || typeof body["seed"] === "number"),
    metadata: readMetadata(body["metadata"] ?? undefined),
    user: (body["user"] as string | null | undefined) ?? (body["safety_identifier"] as string | null | undefined) ?? "",
  };
}

/** Refuses what would choose a destination or credential. */
export function refuseDestinations(body: JsonObject): void {
  for (const name of DESTINATION_FIELDS) {
    if (body[name] === undefined) continue;
    const text = `'${name}' is not accepted: destinations and credentials come from the gateway's configuration.`;
    throw new SignalboxError("FEATURE_UNSUPPORTED", text, { param: name });
  }
}

/** The model asked for. */
export function readModel(body: JsonObject): string {
  const model = body["model"];
  if (model === undefined || model === null) throw invalid("model", "You must provide a model parameter.");
  if (typeof model !== "string" || model === "") throw invalid("model", "'model' must be a non-empty string.");
  if (model.length > MODEL_NAME_MAX) throw invalid("model", `'model' is longer than ${MODEL_NAME_MAX} characters.`);
  if (hasControl(model)) throw invalid("model", "'model' has control characters.");
  return model;
}

/** Whether a text holds C0 controls, DEL or C1 controls: they have no business in names, labels and headers. */
export function hasControl(text: string): boolean {
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code < 0x20 || (code >= 0x7f && code < 0xa0)) return true;
  }
  return false;
}

function checkNumber(body: JsonObject, name: string, least: number, most: number, integer: boolean): void {
  const value = body[name] ?? undefined;
  if (value === undefined) return;
  if (typeof value !== "number" || (integer && !Number.isInteger(value))) {
    throw invalid(name, `'${name}' must be ${integer ? "an integer" : "a number"}.`);
  }
  if (!(value >= least && value <= most)) throw invalid(name, `'${name}' must be between ${least} and ${most}.`);
}

function checkType(body: JsonObject, name: string, type: "boolean" | "string"): void {
  const value = body[name] ?? undefined;
  if (value !== undefined && typeof value !== type) throw invalid(name, `'${name}' must be a ${type}.`);
}

function checkStop(stop: unknown): void {
  if (stop === undefined || typeof stop === "string") return;
  const fits = Array.isArray(stop) && stop.length <= 4 && stop.every((item) => typeof item === "string");
  if (!fits) throw invalid("stop", "'stop' must be a string or an array of at most 4 strings.");
}

function readMessages(value: unknown): readonly JsonObject[] {
  if (!Array.isArray(value) || value.length === 0) throw invalid("messages", "'messages' must be a non-empty array.");
  if (value.length > MESSAGES_MAX) throw invalid("messages", `'messages' has more than ${MESSAGES_MAX} entries.`);
  for (let index = 0; index < value.length; index++) checkMessage(value[index], index);
  return value as readonly JsonObject[];
}

function checkMessage(message: unknown, index: number): void {
  const at = `messages[${index}]`;
  if (!isObject(message)) throw invalid(at, `'${at}' must be an object.`);
  const role = message["role"];
  if (typeof role !== "string" || !ROLES.has(role)) {
    throw invalid(`${at}.role`, `'${at}.role' must be one of ${[...ROLES].join(", ")}.`);
  }
  const content = message["content"] ?? undefined;
  if (content === undefined) {
    if (role !== "assistant" && role !== "function") throw invalid(`${at}.content`, `'${at}.content' is required for role ${role}.`);
  } else if (Array.isArray(content)) {
    for (let part = 0; part < content.length; part++) checkPart(content[part], `${at}.content[${part}]`);
  } else if (typeof content !== "string") {
    throw invalid(`${at}.content`, `'${at}.content' must be a string or an array of content parts.`);
  }
  if (role === "tool" && typeof message["tool_call_id"] !== "string") {
    throw invalid(`${at}.tool_call_id`, `'${at}.tool_call_id' is required for role tool.`);
  }
  const calls = message["tool_calls"] ?? undefined;
  if (calls !== undefined && !(Array.isArray(calls) && calls.every(isObject))) {
    throw invalid(`${at}.tool_calls`, `'${at}.tool_calls' must be an array of objects.`);
  }
}

function checkPart(part: unknown, at: string): void {
  if (!isObject(part) || typeof part["type"] !== "string") throw invalid(at, `'${at}' must be an object with a string 'type'.`);
  if (part["type"] === "text" && typeof part["text"] !== "string") throw invalid(`${at}.text`, `'${at}.text' must be a string.`);
  if (part["type"] === "image_url") checkImage(part["image_url"], `${at}.image_url`);
  if (part["type"] === "input_audio" && !isObject(part["input_audio"])) {
    throw invalid(`${at}.input_audio`, `'${at}.input_audio' must be an object.`);
  }
  if (part["type"] === "file" && !isObject(part["file"])) throw invalid(`${at}.file`, `'${at}.file' must be an object.`);
}

function checkImage(image: unknown, at: string): void {
  const url = isObject(image) ? image["url"] : undefined;
  if (typeof url !== "string") throw invalid(`${at}.url`, `'${at}.url' must be a string.`);
  if (!/^(?:https?:\/\/|data:)/i.test(url)) throw invalid(`${at}.url`, `'${at}.url' must be an http, https or data URL.`);
}

function readTools(body: JsonObject): readonly JsonObject[] {
  const functions = checkTools(body["functions"] ?? undefined, "functions");
  const tools = checkTools(body["tools"] ?? undefined, "tools");
  for (let index = 0; index < tools.length; index++) {
    const tool = tools[index]!;
    const at = `tools[${index}]`;
    if (typeof tool["type"] !== "string") throw invalid(`${at}.type`, `'${at}.type' must be a string.`);
    if (tool["type"] !== "function") continue;
    const definition = tool["function"];
    if (!isObject(definition)) throw invalid(`${at}.function`, `'${at}.function' must be an object.`);
    if (typeof definition["name"] !== "string" || definition["name"] === "") {
      throw invalid(`${at}.function.name`, `'${at}.function.name' must be a non-empty string.`);
    }
  }
  const choice = body["tool_choice"] ?? undefined;
  if (choice !== undefined && !isObject(choice) && choice !== "none" && choice !== "auto" && choice !== "required") {
    throw invalid("tool_choice", "'tool_choice' must be none, auto, required or an object.");
  }
  return tools.length > 0 ? tools : functions;
}

function checkTools(value: unknown, name: string): readonly JsonObject[] {
  if (value === undefined) return [];
  if (!Array.isArray(value) || !value.every(isObject)) throw invalid(name, `'${name}' must be an array of objects.`);
  if (value.length > TOOLS_MAX) throw invalid(name, `'${name}' has more than ${TOOLS_MAX} entries.`);
  return value;
}

function readIncludeUsage(options: unknown, stream: boolean): boolean {
  if (!isObject(options)) return false;
  if (!stream) throw invalid("stream_options", "'stream_options' is only allowed when 'stream' is true.");
  const include = options["include_usage"] ?? undefined;
  if (include !== undefined && typeof include !== "boolean") {
    throw invalid("stream_options.include_usage", "'stream_options.include_usage' must be a boolean.");
  }
  return include === true;
}

function readFormat(format: unknown): ChatRequest["responseFormat"] {
  if (!isObject(format)) return "text";
  const type = format["type"];
  if (typeof type !== "string" || !FORMATS.has(type)) {
    throw invalid("response_format.type", "'response_format.type' must be text, json_object or json_schema.");
  }
  if (type === "json_schema" && !isObject(format["json_schema"])) {
    throw invalid("response_format.json_schema", "'response_format.json_schema' must be an object.");
  }
  return type as ChatRequest["responseFormat"];
}

function readModalities(modalities: unknown): boolean {
  if (modalities === undefined) return false;
  if (!Array.isArray(modalities) || !modalities.every((item) => item === "text" || item === "audio")) {
    throw invalid("modalities", "'modalities' must be an array of text and audio.");
  }
  return modalities.includes("audio");
}

function readTier(tier: unknown): ServiceTier | undefined {
  if (tier === undefined) return undefined;
  if (typeof tier !== "string" || !TIERS.has(tier)) {
    throw invalid("service_tier", `'service_tier' must be one of ${[...TIERS].join(", ")}.`);
  }
  return tier as ServiceTier;
}

function readMetadata(metadata: unknown): Readonly<Record<string, string>> {
  if (metadata === undefined) return {};
  if (!isObject(metadata)) throw invalid("metadata", "'metadata' must be an object.");
  const entries = Object.entries(metadata);
  if (entries.length > METADATA_MAX) throw invalid("metadata", `'metadata' has more than ${METADATA_MAX} entries.`);
  for (const [key, value] of entries) {
    if (key.length > METADATA_KEY_MAX) throw invalid("metadata", `A key of 'metadata' is longer than ${METADATA_KEY_MAX} characters.`);
    if (typeof value !== "string") throw invalid(`metadata.${key}`, "Values of 'metadata' must be strings.");
    if (value.length > METADATA_VALUE_MAX) {
      throw invalid(`metadata.${key}`, `A value of 'metadata' is longer than ${METADATA_VALUE_MAX} characters.`);
    }
  }
  return metadata as Readonly<Record<string, string>>;
}
