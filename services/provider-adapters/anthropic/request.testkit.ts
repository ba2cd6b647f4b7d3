import assert from "node:assert/strict";
import { SignalboxError } from "#libs/errors/index.ts";
import type { AnthropicTarget, JsonObject } from "./api.ts";
import { translateRequest } from "./encode-request.ts";

/** A conversation of one message, where a test is about something else. */
export const HELLO = [{ role: "user", content: "hello" }];

/** A backend that takes everything Claude Sonnet 4.5 does. */
export function target(fields: Partial<AnthropicTarget> = {}): AnthropicTarget {
  return {
    model: "claude-sonnet-4-5",
    version: "2023-06-01",
    maxOutputTokens: 8192,
    enforcedOutputTokens: 0,
    serviceTiers: false,
    stream: false,
    resumePrefix: "",
    resumeTokens: 0,
    ...fields,
  };
}

/** The request as it goes over the wire. */
export function encode(body: JsonObject, fields: Partial<AnthropicTarget> = {}): JsonObject {
  return JSON.parse(JSON.stringify(translateRequest({ messages: HELLO, ...body }, target(fields)).request)) as JsonObject;
}

/** What the caller is told was changed. */
export function warningsOf(body: JsonObject, fields: Partial<AnthropicTarget> = {}): readonly string[] {
  return translateRequest({ messages: HELLO, ...body }, target(fields)).warnings;
}

/** Why the request was refused; fails when it was not. */
export function refusal(body: JsonObject): SignalboxError {
  try {
    translateRequest({ messages: HELLO, ...body }, target());
  } catch (error) {
    assert.ok(error instanceof SignalboxError);
    return error;
  }
  throw new Error("was not refused");
}

/** A tool call of an assistant. */
export const CALL = (id: string, name = "f", args = "{}"): JsonObject => ({ id, type: "function", function: { name, arguments: args } });
/** One declared function, `f`. */
export const TOOLS = [
  { type: "function", function: { name: "f", description: "d", parameters: { type: "object", properties: { a: { type: "string" } } } } },
];
