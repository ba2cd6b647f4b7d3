import assert from "node:assert/strict";
import { test } from "node:test";
import { anthropicCodec } from "./index.ts";
import type { AnthropicFacts } from "./decode-stream.ts";
import { contextOf, decode, sse } from "./testing.ts";

const START = '{"type":"message_start","message":{"id":"msg_1","model":"claude-x","usage":{"input_tokens":10,"output_tokens":1}}}';
const STOP = '{"type":"message_stop"}';
const delta = (stopReason: string, usage: object = { output_tokens: 5 }, details: object = {}): string =>
  JSON.stringify({ type: "message_delta", delta: { stop_reason: stopReason, ...details }, usage });
const block = (index: number, content: object): string => JSON.stringify({ type: "content_block_start", index, content_block: content });
const piece = (index: number, content: object): string => JSON.stringify({ type: "content_block_delta", index, delta: content });
const close = (index: number): string => JSON.stringify({ type: "content_block_stop", index });
const text = (index: number, value: string): string[] => [
  block(index, { type: "text", text: "" }),
  piece(index, { type: "text_delta", text: value }),
  close(index),
];

test("a text answer is role, content and finish, each one event", () => {
  const { text: out, ends, contentEvents } = decode([sse([START, ...text(0, 'a "b"\n'), delta("end_turn"), STOP])]);
  const head =
    'data: {"id":"msg_1","object":"chat.completion.chunk","created":1790000000,"model":"claude-x","choices":[{"index":0,"delta":';
  assert.equal(
    out,
    `${head}{"role":"assistant","content":"","refusal":null},"finish_reason":null}],"usage":null}\n\n` +
      `${head}{"content":"a \\"b\\"\\n"},"finish_reason":null}],"usage":null}\n\n` +
      `${head}{},"finish_reason":"stop"}],"usage":null}\n\n`,
  );
  assert.equal(contentEvents, 1);
  assert.equal(ends[0]!.error, undefined);
});

test("without usage asked for, no chunk mentions it", () => {
  const { text: out, ends } = decode([sse([START, ...text(0, "a"), delta("end_turn"), STOP])], { includeUsage: false });
  assert.doesNotMatch(out, /usage/);
  assert.equal(ends[0]!.usageEvent, undefined);
});

test("tools get their own dense index, whatever blocks lie between", () => {
  const events = [
    START,
    ...text(0, "a"),
    block(1, { type: "tool_use", id: "toolu_a", name: "f", input: {} }),
    piece(1, { type: "input_json_delta", partial_json: '{"x":' }),
    piece(1, { type: "input_json_delta", partial_json: "1}" }),
    close(1),
    block(2, { type: "server_tool_use", id: "s", name: "web_search", input: {} }),
    close(2),
    block(3, { type: "tool_use", id: "toolu_b", name: "g", input: {} }),
    close(3),
    delta("tool_use"),
    STOP,
  ];
  const { chunks, decoder } = decode([sse(events)]);
  const calls = chunks.flatMap((chunk) => chunk.choices[0]!.delta.tool_calls ?? []);
  assert.deepEqual(calls, [
    { index: 0, id: "toolu_a", type: "function", function: { name: "f", arguments: "" } },
    { index: 0, function: { arguments: '{"x":' } },
    { index: 0, function: { arguments: "1}" } },
    { index: 1, id: "toolu_b", type: "function", function: { name: "g", arguments: "" } },
    { index: 1, function: { arguments: "{}" } },
  ]);
  assert.equal(decoder.facts().finishReason, "tool_calls");
  assert.deepEqual((decoder.facts() as AnthropicFacts).warnings, ['content: a block of type "server_tool_use" was left out']);
});

test("a tool block the stream forgot to close still gets its empty arguments", () => {
  const { text: out } = decode([sse([START, block(0, { type: "tool_use", id: "t", name: "f", input: {} }), delta("tool_use"), STOP])]);
  assert.match(out, /"arguments":"\{\}"/);
});

test("thinking streams as reasoning and comes whole, with its signature, at its end", () => {
  const events = [
    START,
    block(0, { type: "thinking", thinking: "", signature: "" }),
    piece(0, { type: "thinking_delta", thinking: "h" }),
    piece(0, { type: "thinking_delta", thinking: "m" }),
    piece(0, { type: "signature_delta", signature: "sig" }),
    close(0),
    block(1, { type: "redacted_thinking", data: "xyz" }),
    close(1),
    ...text(2, "a"),
    delta("end_turn"),
    STOP,
  ];
  const deltas = decode([sse(events)]).chunks.map((chunk) => chunk.choices[0]!.delta);
  assert.equal(deltas.map((item) => item.reasoning_content ?? "").join(""), "hm");
  assert.deepEqual(
    deltas.flatMap((item) => item.thinking_blocks ?? []),
    [
      { type: "thinking", thinking: "hm", signature: "sig" },
      { type: "redacted_thinking", data: "xyz" },
    ],
  );
});

test("a refusal says why and finishes by content_filter", () => {
  const { chunks, ends } = decode([sse([START, delta("refusal", {}, { stop_details: { explanation: "no" } }), STOP])]);
  assert.equal(chunks[1]!.choices[0]!.delta.refusal, "no");
  assert.equal(chunks.at(-1)!.choices[0]!.finish_reason, "content_filter");
  assert.equal(ends[0]!.garbage, false);
});

for (const [stopReason, finishReason] of [
  ["end_turn", "stop"],
  ["stop_sequence", "stop"],
  ["pause_turn", "stop"],
  ["something_new", "stop"],
  ["max_tokens", "length"],
  ["model_context_window_exceeded", "length"],
  ["refusal", "content_filter"],
] as const) {
  test(`stop_reason ${stopReason} is finish_reason ${finishReason}`, () => {
    const { chunks } = decode([sse([START, ...text(0, "a"), delta(stopReason), STOP])]);
    assert.equal(chunks.at(-1)!.choices[0]!.finish_reason, finishReason);
  });
}

test("usage is cumulative: the last statement counts, a zero takes nothing back", () => {
  const start = JSON.stringify({
    type: "message_start",
    message: {
      id: "m",
      model: "c",
      usage: {
        input_tokens: 0,
        cache_read_input_tokens: 100,
        cache_creation_input_tokens: 30,
        cache_creation: { ephemeral_1h_input_tokens: 10 },
        output_tokens: 1,
      },
    },
  });
  const last = delta("end_turn", {
    input_tokens: 7,
    cache_read_input_tokens: 0,
    output_tokens: 50,
    output_tokens_details: { thinking_tokens: 20 },
  });
  const { ends, decoder } = decode([sse([start, ...text(0, "a"), last, STOP])]);
  const usage = decoder.facts().usage!;
  assert.deepEqual(
    [
      usage.inputTokens,
      usage.cacheReadTokens,
      usage.cacheWriteTokens,
      usage.cacheWrite1hTokens,
      usage.outputTokens,
      usage.reasoningTokens,
      usage.anomaly,
    ],
    [7, 100, 20, 10, 50, 20, false],
  );
  assert.deepEqual(JSON.parse(Buffer.from(ends[0]!.usageEvent!).toString("utf8").slice(6)), {
    id: "m",
    object: "chat.completion.chunk",
    created: 1790000000,
    model: "c",
    choices: [],
    usage: {
      prompt_tokens: 137,
      completion_tokens: 50,
      total_tokens: 187,
      prompt_tokens_details: { cached_tokens: 100, cache_write_tokens: 30, audio_tokens: 0 },
      completion_tokens_details: { reasoning_tokens: 20, audio_tokens: 0 },
    },
  });
});

test("numbers that contradict each other are clamped and marked", () => {
  const { decoder } = decode([
    sse([START, ...text(0, "a"), delta("end_turn", { output_tokens: 5, output_tokens_details: { thinking_tokens: 9 } }), STOP]),
  ]);
  const usage = decoder.facts().usage!;
  assert.deepEqual([usage.outputTokens, usage.reasoningTokens, usage.anomaly], [5, 5, true]);
});

test("usage of a stream that broke off is what was stated so far", () => {
  const { decoder } = decode([sse([START, ...text(0, "abc")])]);
  assert.equal(decoder.facts().usage!.inputTokens, 10);
  assert.equal(decoder.facts().contentBytes, 3);
  assert.equal(decoder.facts().contentEvents, 1);
});

for (const [what, events, reason, status] of [
  ["an overload", ['{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'], "UPSTREAM_UNAVAILABLE", 529],
  ["a rate limit", ['{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}'], "UPSTREAM_RATE_LIMITED", 429],
  ["an error without a type", ['{"type":"error","error":{}}'], "UPSTREAM_UNAVAILABLE", 500],
] as const) {
  test(`${what} in mid-stream ends it with its reason`, () => {
    const { ends, chunks } = decode([sse([START, ...text(0, "a"), ...events, delta("end_turn"), STOP])]);
    assert.equal(ends.length, 1);
    assert.equal(ends[0]!.error!.reason, reason);
    assert.equal(ends[0]!.error!.httpStatus, status);
    assert.ok(chunks.every((chunk) => chunk.choices[0]!.finish_reason === null));
  });
}

for (const [what, bytes] of [
  ["broken JSON", "data: {\n\n"],
  ["no object", "data: 7\n\n"],
  ["arguments without a call", `data: ${piece(4, { type: "input_json_delta", partial_json: "{}" })}\n\n`],
  ["a call without a name", `data: ${block(0, { type: "tool_use", id: "t" })}\n\n`],
  ["no stop_reason", `data: ${STOP}\n\n`],
] as const) {
  test(`a stream with ${what} is malformed`, () => {
    const { ends } = decode([sse([START]), Buffer.from(bytes)]);
    assert.equal(ends[0]!.error!.reason, "UPSTREAM_PROTOCOL");
  });
}

test("an answer without anything in it is garbage", () => {
  assert.equal(decode([sse([START, delta("end_turn"), STOP])]).ends[0]!.garbage, true);
  assert.equal(decode([sse([START, delta("max_tokens"), STOP])]).ends[0]!.garbage, false);
});

test("what follows message_stop is ignored", () => {
  const { ends, chunks } = decode([sse([START, ...text(0, "a"), delta("end_turn"), STOP, ...text(1, "b")])]);
  assert.equal(ends.length, 1);
  assert.equal(chunks.length, 3);
});

test("a resumed answer does not repeat the white space its prefix ended with", () => {
  const { chunks } = decode([sse([START, ...text(0, " time"), ...text(1, " x"), delta("end_turn"), STOP])], { resumePrefix: "upon a " });
  assert.equal(chunks.map((chunk) => chunk.choices[0]!.delta.content ?? "").join(""), "time x");
});

test("unknown events and deltas are passed over and named", () => {
  const { ends, decoder } = decode([
    sse([START, ...text(0, "a"), '{"type":"novelty"}', piece(0, { type: "dance_delta" }), delta("end_turn"), STOP]),
  ]);
  assert.equal(ends[0]!.error, undefined);
  assert.deepEqual((decoder.facts() as AnthropicFacts).warnings, [
    'stream: an event of type "novelty" was left out',
    'content: a delta of type "dance_delta" was left out',
  ]);
});

test("a body becomes a chat completion", () => {
  const message = {
    id: "msg_1",
    type: "message",
    model: "claude-x",
    content: [
      { type: "thinking", thinking: "hm", signature: "sig" },
      { type: "text", text: "a" },
      { type: "tool_use", id: "toolu_1", name: "f", input: { x: 1 } },
    ],
    stop_reason: "tool_use",
    usage: { input_tokens: 3, output_tokens: 4, service_tier: "standard" },
  };
  const { body, error, garbage, facts } = anthropicCodec.decodeBody(contextOf(), Buffer.from(JSON.stringify(message)));
  assert.equal(error, undefined);
  assert.equal(garbage, false);
  assert.equal(facts.responseId, "msg_1");
  assert.deepEqual(JSON.parse(Buffer.from(body).toString("utf8")), {
    id: "msg_1",
    object: "chat.completion",
    created: 1790000000,
    model: "claude-x",
    choices: [
      {
        index: 0,
        message: {
          role: "assistant",
          content: "a",
          refusal: null,
          reasoning_content: "hm",
          thinking_blocks: [{ type: "thinking", thinking: "hm", signature: "sig" }],
          tool_calls: [{ id: "toolu_1", type: "function", function: { name: "f", arguments: '{"x":1}' } }],
        },
        logprobs: null,
        finish_reason: "tool_calls",
      },
    ],
    usage: {
      prompt_tokens: 3,
      completion_tokens: 4,
      total_tokens: 7,
      prompt_tokens_details: { cached_tokens: 0, cache_write_tokens: 0, audio_tokens: 0 },
      completion_tokens_details: { reasoning_tokens: 0, audio_tokens: 0 },
    },
    service_tier: "default",
  });
});

test("a refused body has a null content and the reason as refusal", () => {
  const message = { content: [], stop_reason: "refusal", stop_details: { explanation: "no" }, usage: {} };
  const { body } = anthropicCodec.decodeBody(contextOf(), Buffer.from(JSON.stringify(message)));
  const choice = (
    JSON.parse(Buffer.from(body).toString("utf8")) as { choices: { message: { content: null; refusal: string }; finish_reason: string }[] }
  ).choices[0]!;
  assert.deepEqual([choice.message.content, choice.message.refusal, choice.finish_reason], [null, "no", "content_filter"]);
});

for (const [what, text_, reason] of [
  ["no JSON", "<html>", "UPSTREAM_PROTOCOL"],
  ["no object", "[]", "UPSTREAM_PROTOCOL"],
  ["no content", '{"stop_reason":"end_turn"}', "UPSTREAM_PROTOCOL"],
  ["no stop_reason", '{"content":[]}', "UPSTREAM_PROTOCOL"],
  ["an error inside", '{"type":"error","error":{"type":"overloaded_error","message":"x"}}', "UPSTREAM_UNAVAILABLE"],
] as const) {
  test(`a body with ${what} is a failure`, () => {
    const decoded = anthropicCodec.decodeBody(contextOf(), Buffer.from(text_));
    assert.equal(decoded.error!.reason, reason);
    assert.equal(decoded.body.length, 0);
  });
}
