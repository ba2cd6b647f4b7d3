import type { ContentPart, GenerateRequest, Message, Tool, ToolCall } from "#gen/signalbox/inference/v1/inference_service_pb.ts";
import { RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { classOf, mergeTags, type RequestOptions } from "../request-options.ts";

/** Fields a typed request sets by itself: `extra` must not contradict them. */
const TYPED_FIELDS = new Set(["model", "messages", "stream", "stream_options"]);

/** A typed request as the bytes of an OpenAI chat request (decision 11). Throws REQUEST_MALFORMED when `extra` sets a typed field. */
export function encodeGenerate(request: GenerateRequest, stream: boolean): Uint8Array {
  const body: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(request.extra ?? {})) {
    if (TYPED_FIELDS.has(name))
      throw new SignalboxError("REQUEST_MALFORMED", `'extra' must not hold '${name}'.`, { param: `extra.${name}` });
    body[name] = value;
  }
  body["model"] = request.model;
  body["messages"] = request.messages.map(messageOf);
  if (request.tools.length > 0) body["tools"] = request.tools.map(toolOf);
  if (request.toolChoice !== "") body["tool_choice"] = toolChoiceOf(request.toolChoice);
  if (request.maxOutputTokens > 0) body["max_completion_tokens"] = request.maxOutputTokens;
  if (request.temperature !== undefined) body["temperature"] = request.temperature;
  if (request.topP !== undefined) body["top_p"] = request.topP;
  if (request.stop.length > 0) body["stop"] = request.stop;
  if (request.seed !== undefined) body["seed"] = Number(request.seed);
  if (request.n > 0) body["n"] = request.n;
  if (request.user !== "") body["user"] = request.user;
  if (request.jsonSchema !== undefined) {
    body["response_format"] = { type: "json_schema", json_schema: { name: "answer", schema: request.jsonSchema, strict: true } };
  }
  if (stream) {
    body["stream"] = true;
    body["stream_options"] = { include_usage: true };
  }
  return Buffer.from(JSON.stringify(body));
}

/** The routing options of a typed request: its own fields over those of the call's headers. */
export function typedOptions(request: GenerateRequest, fromHeaders: RequestOptions, timeoutMs: number | undefined): RequestOptions {
  let { requestClass } = fromHeaders;
  if (request.priority !== "") {
    requestClass = classOf(request.priority);
    if (requestClass === RequestClass.UNSPECIFIED) {
      throw new SignalboxError("REQUEST_MALFORMED", "'priority' must be interactive, standard or batch.", { param: "priority" });
    }
  }
  const deadlines = [fromHeaders.deadlineMs, timeoutMs ?? 0].filter((ms) => ms > 0);
  return {
    ...fromHeaders,
    requestClass,
    tags: mergeTags(fromHeaders.tags, request.metadata),
    deadlineMs: deadlines.length > 0 ? Math.min(...deadlines) : 0,
  };
}

function messageOf(message: Message): Record<string, unknown> {
  const encoded: Record<string, unknown> = { role: message.role };
  if (message.parts.length > 0) encoded["content"] = message.parts.map(partOf);
  else encoded["content"] = message.content === "" && message.toolCalls.length > 0 ? null : message.content;
  if (message.toolCalls.length > 0) encoded["tool_calls"] = message.toolCalls.map(callOf);
  if (message.toolCallId !== "") encoded["tool_call_id"] = message.toolCallId;
  if (message.name !== "") encoded["name"] = message.name;
  return encoded;
}

function partOf({ part }: ContentPart): Record<string, unknown> {
  if (part.case === "imageUrl") return { type: "image_url", image_url: { url: part.value } };
  return { type: "text", text: part.value ?? "" };
}

function toolOf(tool: Tool): Record<string, unknown> {
  return {
    type: "function",
    function: {
      name: tool.name,
      ...(tool.description === "" ? {} : { description: tool.description }),
      ...(tool.parameters === undefined ? {} : { parameters: tool.parameters }),
      ...(tool.strict ? { strict: true } : {}),
    },
  };
}

function callOf(call: ToolCall): Record<string, unknown> {
  return { id: call.id, type: "function", function: { name: call.name, arguments: call.arguments } };
}

function toolChoiceOf(choice: string): unknown {
  return choice === "auto" || choice === "none" || choice === "required" ? choice : { type: "function", function: { name: choice } };
}
