import {
  FAST_MODE_BETA,
  isObject,
  objectOf,
  textOf,
  VERSION_2026,
  type AnthropicTarget,
  type JsonObject,
  type MessagesRequest,
} from "./api.ts";
import { hasText, malformed, unsupported } from "./encode-content.ts";
import { encodeMessages } from "./encode-messages.ts";
import { encodeReasoning } from "./encode-reasoning.ts";
import { encodeTools } from "./encode-tools.ts";
import { structuredSchema } from "./json-schema.ts";
import { traitsOf, type ModelTraits } from "./model-traits.ts";
import { Warnings } from "./warnings.ts";

/** The JSON mode of OpenAI has no counterpart: the model is told. */
const JSON_OBJECT_INSTRUCTION = "Answer with one valid JSON object and nothing else: no prose, no code fence.";

/** Longest `metadata.user_id`, characters. */
const USER_ID_MAX_CHARS = 256;

/** Hints without a counterpart; a value that is the default anyway is dropped without a word. */
const DROPPED_HINTS: readonly (readonly [name: string, isDefault: (value: unknown) => boolean])[] = [
  ["frequency_penalty", (value) => value === 0],
  ["presence_penalty", (value) => value === 0],
  ["logit_bias", (value) => isObject(value) && Object.keys(value).length === 0],
  ["seed", () => false],
  ["prediction", () => false],
  ["verbosity", (value) => value === "medium"],
  ["store", (value) => value === false],
  ["moderation", () => false],
  ["web_search_options", () => false],
  ["prompt_cache_key", () => true],
  ["prompt_cache_options", () => true],
  ["prompt_cache_retention", () => true],
];

/** Parameters that are handled, here or at the ingress; anything else is named in a warning. */
const KNOWN = new Set([
  ...DROPPED_HINTS.map(([name]) => name),
  "model",
  "messages",
  "stream",
  "stream_options",
  "metadata",
  "max_tokens",
  "max_completion_tokens",
  "n",
  "logprobs",
  "top_logprobs",
  "modalities",
  "audio",
  "temperature",
  "top_p",
  "top_k",
  "stop",
  "tools",
  "functions",
  "tool_choice",
  "function_call",
  "parallel_tool_calls",
  "response_format",
  "reasoning_effort",
  "thinking",
  "user",
  "safety_identifier",
  "service_tier",
]);

/** A translated request. */
export interface TranslatedRequest {
  readonly request: MessagesRequest;
  /** Betas it needs, for the `anthropic-beta` header. */
  readonly betas: readonly string[];
  readonly warnings: readonly string[];
}

/**
 * An OpenAI chat request as Anthropic's Messages API wants it. Throws REQUEST_MALFORMED for what the API would refuse and
 * FEATURE_UNSUPPORTED, with `param`, for what it cannot do; hints are clamped or dropped with a warning.
 */
export function translateRequest(body: JsonObject, target: AnthropicTarget): TranslatedRequest {
  const warnings = new Warnings();
  const traits = traitsOf(target.model, target.version);
  refuseUnsupported(body);
  if (target.resumePrefix !== "" && !traits.prefill) throw unsupported("this model does not continue a given beginning", "messages");
  const { system, messages, toolNames, toolTurnWithoutThinking } = encodeMessages(body["messages"], warnings);
  const request: MessagesRequest = {
    model: target.model,
    max_tokens: maxTokens(body, target, warnings),
    messages: target.resumePrefix === "" ? messages : withPrefill(messages, target.resumePrefix),
  };
  if (system.length > 0) request.system = system;
  if (target.stream) request.stream = true;
  Object.assign(request, encodeTools(body, toolNames, traits, warnings));
  // An unfinished turn cannot be continued with thinking on.
  const reasoning = target.resumePrefix === "" ? encodeReasoning(body, request, traits, toolTurnWithoutThinking, warnings) : {};
  if (reasoning.thinking !== undefined) request.thinking = reasoning.thinking;
  if (reasoning.effort !== undefined) request.output_config = { effort: reasoning.effort };
  addSampling(request, body, traits, warnings);
  addStop(request, body, warnings);
  addFormat(request, body);
  addUser(request, body, warnings);
  const betas = addTier(request, body, target, traits, warnings);
  for (const [name, isDefault] of DROPPED_HINTS) {
    const value = body[name];
    if (value !== undefined && value !== null && !isDefault(value)) warnings.add(name, "dropped, this backend does not know it");
  }
  for (const name of Object.keys(body)) if (!KNOWN.has(name)) warnings.add(name, "dropped, unknown to this backend");
  return { request, betas, warnings: warnings.list() };
}

function refuseUnsupported(body: JsonObject): void {
  if (typeof body["n"] === "number" && body["n"] > 1) throw unsupported("this backend gives one choice", "n");
  if (body["logprobs"] === true) throw unsupported("this backend gives no log probabilities", "logprobs");
  if (typeof body["top_logprobs"] === "number" && body["top_logprobs"] > 0) {
    throw unsupported("this backend gives no log probabilities", "top_logprobs");
  }
  if (Array.isArray(body["modalities"]) && body["modalities"].includes("audio"))
    throw unsupported("this backend speaks no audio", "modalities");
  if (isObject(body["audio"])) throw unsupported("this backend speaks no audio", "audio");
}

function maxTokens(body: JsonObject, target: AnthropicTarget, warnings: Warnings): number {
  const name = isSet(body["max_completion_tokens"]) ? "max_completion_tokens" : "max_tokens";
  const asked = body[name];
  if (!isSet(asked)) {
    const enforced = target.enforcedOutputTokens > 0 ? target.enforcedOutputTokens - target.resumeTokens : target.maxOutputTokens;
    return Math.max(1, Math.min(enforced, target.maxOutputTokens));
  }
  if (typeof asked !== "number" || !Number.isInteger(asked) || asked < 1) throw malformed("must be a positive integer", name);
  const left = Math.max(1, asked - target.resumeTokens);
  if (left <= target.maxOutputTokens) return left;
  warnings.add(name, `clamped to ${target.maxOutputTokens}`);
  return target.maxOutputTokens;
}

/** What was delivered already goes back as the assistant's unfinished turn. */
function withPrefill(messages: MessagesRequest["messages"], prefix: string): MessagesRequest["messages"] {
  const text = prefix.trimEnd();
  return text === "" ? messages : [...messages, { role: "assistant", content: [{ type: "text", text }] }];
}

function addSampling(request: MessagesRequest, body: JsonObject, traits: ModelTraits, warnings: Warnings): void {
  const isThinking = request.thinking !== undefined && request.thinking.type !== "disabled";
  for (const name of ["temperature", "top_p", "top_k"] as const) {
    const value = body[name];
    if (!isSet(value)) continue;
    if (typeof value !== "number" || !(value >= 0)) throw malformed("must be a number that is not negative", name);
    if (!traits.sampling) warnings.add(name, "dropped, the model takes no sampling parameters");
    else if (isThinking) warnings.add(name, "dropped, it cannot be combined with thinking");
    else if (name === "top_p" && request.temperature !== undefined && !traits.samplingPair)
      warnings.add(name, "dropped, the model takes temperature or top_p, not both");
    else request[name] = name === "top_k" ? value : clampToOne(name, value, warnings);
  }
}

function clampToOne(name: string, value: number, warnings: Warnings): number {
  if (value > 1) warnings.add(name, "clamped to 1");
  return Math.min(1, value);
}

function addStop(request: MessagesRequest, body: JsonObject, warnings: Warnings): void {
  const stop = body["stop"];
  if (!isSet(stop)) return;
  const list: readonly unknown[] = Array.isArray(stop) ? stop : [stop];
  const texts = list.map((item) => {
    if (typeof item !== "string") throw malformed("must be a string or an array of strings", "stop");
    return item;
  });
  const kept = texts.filter(hasText);
  if (kept.length < texts.length) warnings.add("stop", "blank sequences dropped, this backend refuses them");
  if (kept.length > 0) request.stop_sequences = kept;
}

function addFormat(request: MessagesRequest, body: JsonObject): void {
  const format = body["response_format"];
  if (!isSet(format)) return;
  const type = objectOf(format)["type"];
  if (type === "text") return;
  if (type === "json_object") {
    request.system = [...(request.system ?? []), { type: "text", text: JSON_OBJECT_INSTRUCTION }];
    return;
  }
  if (type !== "json_schema") throw malformed("must be text, json_object or json_schema", "response_format.type");
  const schema = objectOf(objectOf(format)["json_schema"])["schema"];
  if (!isObject(schema)) throw malformed("is missing", "response_format.json_schema.schema");
  request.output_config = { ...request.output_config, format: { type: "json_schema", schema: structuredSchema(schema) } };
}

function addUser(request: MessagesRequest, body: JsonObject, warnings: Warnings): void {
  const name = textOf(body["safety_identifier"]) === "" ? "user" : "safety_identifier";
  const user = textOf(body[name]);
  if (user === "") return;
  if (user.length > USER_ID_MAX_CHARS) warnings.add(name, `dropped, longer than ${USER_ID_MAX_CHARS} characters`);
  else request.metadata = { user_id: user };
}

/** Tiers cost money, so they go upstream only where the backend's configuration says so. */
function addTier(request: MessagesRequest, body: JsonObject, target: AnthropicTarget, traits: ModelTraits, warnings: Warnings): string[] {
  const tier = body["service_tier"];
  if (!target.serviceTiers || !isSet(tier)) return [];
  if (tier !== "priority" && tier !== "fast") {
    request.service_tier = tier === "flex" ? "standard_only" : "auto";
    return [];
  }
  if (!traits.fast) {
    warnings.add("service_tier", "sent as auto, the model has no fast mode");
    request.service_tier = "auto";
    return [];
  }
  request.speed = "fast";
  return target.version >= VERSION_2026 ? [] : [FAST_MODE_BETA];
}

function isSet(value: unknown): boolean {
  return value !== undefined && value !== null;
}
