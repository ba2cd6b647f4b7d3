import assert from "node:assert/strict";
import { test } from "node:test";
import type { DecodedBody } from "../codec.ts";
import { openaiCodec } from "./api.ts";
import { backendOf, NOW_MS, openOf } from "./testkit.ts";

const ANSWER = {
  id: "chatcmpl-9",
  object: "chat.completion",
  created: 1_700_000_000,
  model: "m-2026",
  choices: [{ index: 0, message: { role: "assistant", content: "Hi", refusal: null }, logprobs: null, finish_reason: "stop" }],
  usage: { prompt_tokens: 5, completion_tokens: 1, total_tokens: 6 },
};

function decode(value: unknown): DecodedBody & { readonly json: Record<string, unknown> } {
  const bytes = Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
  const decoded = openaiCodec.decodeBody({ open: openOf({ stream: false }), backend: backendOf(), memo: undefined, nowMs: NOW_MS }, bytes);
  const text = Buffer.from(decoded.body).toString();
  return { ...decoded, json: (text === "" ? {} : JSON.parse(text)) as Record<string, unknown> };
}

function choice(message: object, finish: unknown = "stop"): object {
  return { ...ANSWER, choices: [{ index: 0, message, finish_reason: finish }] };
}

test("an ordinary answer is the same bytes", () => {
  const bytes = Buffer.from(JSON.stringify(ANSWER, null, 2));
  const decoded = openaiCodec.decodeBody({ open: openOf(), backend: backendOf(), memo: undefined, nowMs: NOW_MS }, bytes);
  assert.equal(decoded.body, bytes);
  assert.deepEqual(
    [decoded.facts.finishReason, decoded.facts.upstreamModel, decoded.facts.usage?.outputTokens, decoded.garbage],
    ["stop", "m-2026", 1, false],
  );
});

test("foreign finish reasons, lists of parts and missing identity become ours", () => {
  const parts = [
    { type: "thinking", thinking: [{ type: "text", text: "hm" }] },
    { type: "text", text: "4" },
  ];
  const { json } = decode({ ...choice({ role: "assistant", content: parts }, "eos_token"), id: "", object: "text", created: 0 });
  assert.deepEqual(json["choices"], [
    { index: 0, message: { role: "assistant", content: "4", reasoning_content: "hm" }, finish_reason: "stop" },
  ]);
  assert.deepEqual([json["id"], json["object"], json["created"]], ["chatcmpl-0197-attempt", "chat.completion", NOW_MS / 1000]);
});

test("a missing finish reason is tool_calls with calls, else stop", () => {
  const call = { id: "c", type: "function", function: { name: "f", arguments: "{}" } };
  assert.equal(decode(choice({ content: null, tool_calls: [call] }, null)).facts.finishReason, "tool_calls");
  assert.equal(decode(choice({ content: "x" }, null)).facts.finishReason, "stop");
});

test("usage that contradicts itself leaves clamped", () => {
  const { json, facts } = decode({
    ...ANSWER,
    usage: { prompt_tokens: 7, completion_tokens: 2, prompt_tokens_details: { cached_tokens: 161 } },
  });
  assert.equal(facts.usage?.anomaly, true);
  assert.deepEqual((json["usage"] as { prompt_tokens_details: { cached_tokens: number } }).prompt_tokens_details.cached_tokens, 7);
});

test("an error with status 200, no choices and broken JSON are failures", () => {
  assert.equal(decode({ error: { message: "m", code: 429 } }).error?.reason, "UPSTREAM_RATE_LIMITED");
  for (const body of ["", "{", "[]", "null", "<html>", '{"choices":[]}', '{"choices":[1]}', '{"choices":[{"index":0}]}']) {
    assert.equal(decode(body).error?.reason, "UPSTREAM_PROTOCOL", body);
  }
  assert.equal(decode(choice({ content: "x" }, "error")).error?.reason, "UPSTREAM_PROTOCOL");
});

test("an empty answer is garbage unless something explains it", () => {
  assert.equal(decode(choice({ content: "" })).garbage, true);
  assert.equal(decode(choice({ content: null, refusal: "no" })).garbage, false);
  assert.equal(decode(choice({ content: "" }, "content_filter")).garbage, false);
});
