import { attemptError, type AnswerFacts, type DecodeContext, type DecodedBody } from "../codec.ts";
import { isObject, objectOf, textOf, type JsonObject, type ThinkingBlock } from "./api.ts";
import type { AnthropicFacts } from "./decode-stream.ts";
import { finishReasonOf, refusalOf, type FinishReason } from "./finish.ts";
import { errorOfEvent } from "./map-error.ts";
import { restoreToolId } from "./tool-ids.ts";
import { openaiUsage, UsageMeter } from "./usage.ts";
import { Warnings } from "./warnings.ts";

/** Tiers OpenAI's specification knows in an answer. */
const OPENAI_TIERS = new Set(["auto", "default", "flex", "scale", "priority", "fast"]);

const NO_FACTS: AnswerFacts = { usage: undefined, finishReason: "", upstreamModel: "", responseId: "", contentBytes: 0, contentEvents: 0 };

/** Turns a whole Messages answer into an OpenAI chat completion. Never throws. */
export function decodeBody(context: DecodeContext, bytes: Uint8Array): DecodedBody {
  let message: unknown;
  try {
    message = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8"));
  } catch {
    return broken("the body is not valid JSON");
  }
  if (!isObject(message)) return broken("the body is not a JSON object");
  if (message["type"] === "error" || isObject(message["error"])) {
    return { body: EMPTY, facts: NO_FACTS, error: errorOfEvent(message["error"]), garbage: false };
  }
  if (!Array.isArray(message["content"])) return broken("the body has no content");
  if (typeof message["stop_reason"] !== "string") return broken("the body has no stop_reason");
  return translate(context, message, message["content"], message["stop_reason"]);
}

const EMPTY = new Uint8Array(0);

function broken(problem: string): DecodedBody {
  return { body: EMPTY, facts: NO_FACTS, error: attemptError("UPSTREAM_PROTOCOL", `anthropic body: ${problem}`), garbage: false };
}

/** What the blocks of an answer come to in OpenAI's message. */
interface Gathered {
  text: string;
  reasoning: string;
  readonly thinking: ThinkingBlock[];
  readonly toolCalls: JsonObject[];
  contentBytes: number;
  skipped: number;
}

function translate(context: DecodeContext, message: JsonObject, content: readonly unknown[], stopReason: string): DecodedBody {
  const warnings = new Warnings();
  const gathered = gather(content, warnings);
  const meter = new UsageMeter();
  meter.take(message["usage"]);
  const usage = meter.usage();
  const finishReason = stopReason === "tool_use" && gathered.toolCalls.length === 0 ? "stop" : finishReasonOf(stopReason);
  const refusal = finishReason === "content_filter" ? refusalOf(message["stop_details"]) : null;
  const responseId = textOf(message["id"]);
  const upstreamModel = textOf(message["model"]);
  const completion = {
    id: responseId === "" ? `chatcmpl-${context.open.attemptId}` : responseId,
    object: "chat.completion",
    created: Math.floor(context.nowMs / 1000),
    model: upstreamModel === "" ? context.backend.model : upstreamModel,
    choices: [{ index: 0, message: openaiMessage(gathered, refusal), logprobs: null, finish_reason: finishReason }],
    ...(usage === undefined ? {} : { usage: openaiUsage(usage) }),
    ...(usage !== undefined && OPENAI_TIERS.has(usage.serviceTier) ? { service_tier: usage.serviceTier } : {}),
  };
  const contentBytes = gathered.contentBytes + (refusal?.length ?? 0);
  const facts: AnthropicFacts = {
    usage,
    finishReason,
    upstreamModel,
    responseId,
    contentBytes,
    contentEvents: 0,
    warnings: warnings.list(),
  };
  return {
    body: Buffer.from(JSON.stringify(completion)),
    facts,
    error: undefined,
    garbage: isGarbage(finishReason, contentBytes, gathered),
  };
}

function openaiMessage(gathered: Gathered, refusal: string | null): JsonObject {
  const isSilent = gathered.text === "" && (gathered.toolCalls.length > 0 || refusal !== null);
  return {
    role: "assistant",
    content: isSilent ? null : gathered.text,
    refusal,
    ...(gathered.reasoning === "" ? {} : { reasoning_content: gathered.reasoning }),
    ...(gathered.thinking.length === 0 ? {} : { thinking_blocks: gathered.thinking }),
    ...(gathered.toolCalls.length === 0 ? {} : { tool_calls: gathered.toolCalls }),
  };
}

function isGarbage(finishReason: FinishReason, contentBytes: number, gathered: Gathered): boolean {
  return contentBytes === 0 && gathered.skipped === 0 && finishReason !== "length";
}

function gather(content: readonly unknown[], warnings: Warnings): Gathered {
  const gathered: Gathered = { text: "", reasoning: "", thinking: [], toolCalls: [], contentBytes: 0, skipped: 0 };
  for (const item of content) takeBlock(objectOf(item), gathered, warnings);
  gathered.contentBytes += gathered.text.length + gathered.reasoning.length;
  return gathered;
}

function takeBlock(block: JsonObject, gathered: Gathered, warnings: Warnings): void {
  switch (block["type"]) {
    case "text":
      gathered.text += textOf(block["text"]);
      if (Array.isArray(block["citations"])) warnings.add("content", "citations were left out");
      return;
    case "thinking": {
      const thinking = textOf(block["thinking"]);
      const signature = textOf(block["signature"]);
      gathered.reasoning += thinking;
      if (signature !== "") gathered.thinking.push({ type: "thinking", thinking, signature });
      return;
    }
    case "redacted_thinking":
      gathered.thinking.push({ type: "redacted_thinking", data: textOf(block["data"]) });
      return;
    case "tool_use": {
      const call = { name: textOf(block["name"]), arguments: JSON.stringify(block["input"] ?? {}) };
      gathered.contentBytes += call.name.length + call.arguments.length;
      gathered.toolCalls.push({ id: restoreToolId(textOf(block["id"])), type: "function", function: call });
      return;
    }
    default:
      gathered.skipped++;
      warnings.add("content", `a block of type ${JSON.stringify(block["type"] ?? null).slice(0, 60)} was left out`);
  }
}
