import { create } from "@bufbuild/protobuf";
import {
  type Choice,
  ChoiceSchema,
  type GenerateResponse,
  GenerateResponseSchema,
  RoutingSchema,
  TokenUsageSchema,
  type ToolCall,
  ToolCallSchema,
} from "#gen/signalbox/inference/v1/inference_service_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { isObject, type JsonObject } from "../openai/parse.ts";
import type { ReplyFacts } from "../reply.ts";

function parse(text: string): JsonObject {
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
  } catch (cause) {
    throw new SignalboxError("UPSTREAM_PROTOCOL", "The answer cannot be understood.", { cause });
  }
  throw new SignalboxError("UPSTREAM_PROTOCOL", "The answer is no JSON object.");
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function count(value: unknown): number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff ? value : 0;
}

function list(value: unknown): readonly JsonObject[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}

/** A whole OpenAI chat answer as a typed one. */
export function decodeAnswer(bytes: Uint8Array, facts: ReplyFacts): GenerateResponse {
  const answer = parse(Buffer.from(bytes).toString());
  return create(GenerateResponseSchema, {
    id: text(answer["id"]),
    model: text(answer["model"]),
    choices: list(answer["choices"]).map((choice) => choiceOf(choice, "message")),
    ...usageOf(answer["usage"]),
    routing: routingOf(facts),
  });
}

/** Where the request went, for the end of a typed answer. */
export function routingOf(facts: ReplyFacts): NonNullable<GenerateResponse["routing"]> {
  return create(RoutingSchema, {
    decisionId: facts.decisionId,
    backend: facts.backend,
    attempts: facts.attempts,
    costNanoUsd: facts.costNanoUsd ?? 0n,
    requestId: facts.requestId,
  });
}

function usageOf(value: unknown): Pick<GenerateResponse, "usage"> {
  if (!isObject(value)) return {};
  const prompt = isObject(value["prompt_tokens_details"]) ? value["prompt_tokens_details"] : {};
  const completion = isObject(value["completion_tokens_details"]) ? value["completion_tokens_details"] : {};
  return {
    usage: create(TokenUsageSchema, {
      inputTokens: count(value["prompt_tokens"]),
      cacheReadTokens: count(prompt["cached_tokens"]),
      outputTokens: count(value["completion_tokens"]),
      reasoningTokens: count(completion["reasoning_tokens"]),
    }),
  };
}

function choiceOf(choice: JsonObject, member: "message" | "delta"): Choice {
  const message = isObject(choice[member]) ? choice[member] : {};
  return create(ChoiceSchema, {
    index: count(choice["index"]),
    content: text(message["content"]),
    refusal: text(message["refusal"]),
    reasoning: text(message["reasoning_content"]) || text(message["reasoning"]),
    toolCalls: list(message["tool_calls"]).map(callOf),
    finishReason: text(choice["finish_reason"]),
  });
}

function callOf(call: JsonObject): ToolCall {
  const definition = isObject(call["function"]) ? call["function"] : {};
  return create(ToolCallSchema, { id: text(call["id"]), name: text(definition["name"]), arguments: text(definition["arguments"]) });
}

/** What the events of a stream add up to besides their deltas. */
export class StreamReader {
  #id = "";
  #model = "";
  #usage: Pick<GenerateResponse, "usage"> = {};

  /** Deltas in a piece of whole events. */
  read(bytes: Uint8Array): readonly Choice[] {
    const deltas: Choice[] = [];
    for (const event of Buffer.from(bytes).toString().split("\n\n")) {
      if (!event.startsWith("data:")) continue;
      const data = event.slice(5).trim();
      if (data === "" || data === "[DONE]") continue;
      const chunk = parse(data);
      this.#id ||= text(chunk["id"]);
      this.#model ||= text(chunk["model"]);
      if (isObject(chunk["usage"])) this.#usage = usageOf(chunk["usage"]);
      for (const choice of list(chunk["choices"])) deltas.push(choiceOf(choice, "delta"));
    }
    return deltas;
  }

  /** The last message of a stream that went well. */
  done(facts: ReplyFacts): GenerateResponse {
    return create(GenerateResponseSchema, { id: this.#id, model: this.#model, ...this.#usage, routing: routingOf(facts) });
  }
}
