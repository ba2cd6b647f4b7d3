import assert from "node:assert/strict";
import { test } from "node:test";
import { chunkOf, decodeChunks, decodeText, openOf, payloads, readAnswer, sse } from "./testkit.ts";

const HELLO = [
  chunkOf({ role: "assistant", content: "", refusal: null }, null, { usage: null }),
  chunkOf({ content: "Hel" }, null, { usage: null }),
  chunkOf({ content: "lo" }, null, { usage: null }),
  chunkOf({}, "stop", { usage: null }),
];
const USAGE = { prompt_tokens: 16, completion_tokens: 3, total_tokens: 19, prompt_tokens_details: { cached_tokens: 4 } };
const USAGE_CHUNK = { ...chunkOf({}), choices: [], usage: USAGE };

test("an ordinary stream passes byte for byte, without [DONE] and without the usage chunk", () => {
  const decoded = decodeText(sse([...HELLO, USAGE_CHUNK]));
  assert.equal(decoded.text, sse(HELLO, false));
  assert.equal(decoded.end?.error, undefined);
  assert.deepEqual(
    decoded.pieces.map((piece) => [piece.content, piece.contentEvents]),
    [
      [false, 0],
      [true, 1],
      [true, 1],
      [false, 0],
    ],
  );
  assert.equal(decoded.facts.finishReason, "stop");
  assert.equal(decoded.facts.upstreamModel, "m-2026");
  assert.equal(decoded.facts.responseId, "chatcmpl-1");
  assert.equal(decoded.facts.contentEvents, 2);
  assert.equal(decoded.facts.contentBytes, 5);
  assert.deepEqual([decoded.facts.usage?.inputTokens, decoded.facts.usage?.cacheReadTokens, decoded.facts.usage?.outputTokens], [12, 4, 3]);
  const usageEvent = JSON.parse(payloads(Buffer.from(decoded.end!.usageEvent!).toString())[0]!) as Record<string, unknown>;
  assert.deepEqual([usageEvent["choices"], usageEvent["usage"], usageEvent["id"]], [[], USAGE, "chatcmpl-1"]);
});

test("known events go out as views on the chunk they came in, a run of them in one piece", () => {
  const head = Buffer.from(sse(HELLO.slice(0, 2), false));
  const run = Buffer.from(
    sse(
      Array.from({ length: 20 }, (_, index) => chunkOf({ content: `w${index}"\\é` }, null, { usage: null })),
      false,
    ),
  );
  const decoded = decodeChunks([head, run], openOf(), undefined, false);
  assert.equal(decoded.pieces.at(-1)!.contentEvents, 20);
  assert.equal(decoded.pieces.at(-1)!.bytes.length, run.length);
});

test("padding that changes with every event does not hide its shape", () => {
  const events = Array.from({ length: 12 }, (_, index) =>
    chunkOf({ content: `x${index}` }, null, { usage: null, obfuscation: "a".repeat(index % 5) }),
  );
  const decoded = decodeChunks([Buffer.from(sse(events, false))], openOf(), undefined, false);
  assert.deepEqual(
    decoded.pieces.map((piece) => piece.contentEvents),
    [1, 11],
  );
});

test("a caller who did not ask gets no usage event, and no usage on the finish chunk", () => {
  const stream = sse([chunkOf({ role: "assistant", content: "x" }), chunkOf({}, "stop", { usage: USAGE })]);
  const silent = decodeText(stream, openOf({ includeUsage: false }));
  assert.equal(silent.end?.usageEvent, undefined);
  assert.deepEqual(readAnswer(payloads(silent.text)).usage, undefined);
  assert.equal(silent.facts.usage?.outputTokens, 3);
  const asked = decodeText(stream);
  assert.ok(asked.end?.usageEvent);
  assert.equal(readAnswer(payloads(asked.text)).usage, undefined, "it moved to the usage event");
});

test("usage is found wherever a provider puts it, and the last one wins", () => {
  const corner = sse([chunkOf({ content: "x" }), chunkOf({}, "stop", { x_groq: { id: "r", usage: USAGE } })]);
  assert.equal(decodeText(corner).facts.usage?.outputTokens, 3);
  const choice = { index: 0, delta: {}, finish_reason: "stop", usage: USAGE };
  assert.equal(decodeText(sse([chunkOf({ content: "x" }), { ...chunkOf({}), choices: [choice] }])).facts.usage?.outputTokens, 3);
  const twice = sse([chunkOf({ content: "x" }, null, { usage: { ...USAGE, completion_tokens: 1 } }), ...HELLO.slice(1), USAGE_CHUNK]);
  assert.equal(decodeText(twice).facts.usage?.outputTokens, 3);
});

test("a stream that ends without a finish reason is truncated", () => {
  for (const text of [sse(HELLO.slice(0, 3), false), sse(HELLO.slice(0, 3), false) + "data: {", sse(HELLO, false).slice(0, -40), ""]) {
    const decoded = decodeText(text);
    assert.equal(decoded.end?.error?.reason, "UPSTREAM_PROTOCOL", text.slice(-60));
    assert.equal(decoded.ends, 1);
  }
});

test("a finish reason without [DONE] is complete, and [DONE] without a finish reason gets one", () => {
  assert.equal(decodeText(sse(HELLO, false)).end?.error, undefined);
  const decoded = decodeText(sse(HELLO.slice(0, 3)));
  assert.equal(decoded.end?.error, undefined);
  assert.equal(decoded.facts.finishReason, "stop");
  assert.equal(readAnswer(payloads(decoded.text)).choices.get(0)?.finish, "stop");
  const calls = [chunkOf({ tool_calls: [{ index: 0, id: "c", type: "function", function: { name: "f", arguments: "{}" } }] })];
  assert.equal(readAnswer(payloads(decodeText(sse(calls)).text)).choices.get(0)?.finish, "tool_calls");
});

test("a finish chunk sent twice leaves once, and its usage counts", () => {
  const decoded = decodeText(
    sse([...HELLO.slice(0, 3), chunkOf({ content: "" }, "stop"), chunkOf({ content: "" }, "stop", { usage: USAGE })]),
  );
  assert.equal(payloads(decoded.text).filter((event) => event.includes('"stop"')).length, 1);
  assert.equal(decoded.facts.usage?.outputTokens, 3);
});

test("foreign finish reasons leave as ours, and a failed generation is a failure", () => {
  for (const [word, reason] of [
    ["eos_token", "stop"],
    ["MAX_TOKENS", "length"],
    ["tool_use", "tool_calls"],
    ["SAFETY", "content_filter"],
    ["whatever", "stop"],
  ] as const) {
    const decoded = decodeText(sse([...HELLO.slice(0, 2), chunkOf({}, word)]));
    assert.equal(readAnswer(payloads(decoded.text)).choices.get(0)?.finish, reason, word);
    assert.equal(decoded.facts.finishReason, reason);
  }
  for (const word of ["error", "abort", "insufficient_system_resource"]) {
    assert.equal(decodeText(sse([...HELLO.slice(0, 2), chunkOf({}, word)])).end?.error?.reason, "UPSTREAM_UNAVAILABLE", word);
  }
});

test("an error inside the stream ends it with the provider's words", () => {
  const error = { error: { message: "Overloaded", type: "server_error", code: 503 } };
  const decoded = decodeText(sse([...HELLO.slice(0, 2), error]));
  assert.deepEqual([decoded.end?.error?.reason, decoded.end?.error?.message], ["UPSTREAM_UNAVAILABLE", "Overloaded"]);
  const groq = decodeText(
    `event: error\ndata: {"error":{"message":"Failed to call a function.","type":"invalid_request_error","code":"tool_use_failed","status_code":400}}\n\n`,
  );
  assert.deepEqual([groq.end?.error?.reason, groq.end?.error?.code], ["UPSTREAM_PROTOCOL", "tool_use_failed"]);
  const limited = decodeText(sse([{ error: { message: "Slow down", type: "rate_limit_error" } }]));
  assert.equal(limited.end?.error?.reason, "UPSTREAM_RATE_LIMITED");
});

test("an event that is not JSON is malformed, before and after content", () => {
  for (const text of [
    "data: {oops\n\n",
    sse(HELLO.slice(0, 3), false) + 'data: {"id":"chatcmpl-1","choices":[{"delta":{"content":"x\n\n',
    "data: 7\n\n",
  ]) {
    assert.equal(decodeText(text, openOf(), undefined, false).end?.error?.reason, "UPSTREAM_PROTOCOL");
  }
});

test("text that looks like keys is text", () => {
  const tricky = [
    '"usage":{"prompt_tokens":9}',
    '"finish_reason":"stop"',
    "usage",
    "error",
    '{"error":{}}',
    "data: [DONE]\n\n",
    '\\"',
    "\\",
  ];
  const events = [HELLO[0]!, ...tricky.map((content) => chunkOf({ content }, null, { usage: null })), chunkOf({}, "stop", { usage: null })];
  const decoded = decodeText(sse(events));
  assert.equal(decoded.text, sse(events, false));
  assert.equal(readAnswer(payloads(decoded.text)).choices.get(0)?.text, tricky.join(""));
  assert.equal(decoded.facts.usage, undefined);
});

test("identity that is missing is made up once and kept", () => {
  const events = ["a", "b"].map((content) => ({ ...chunkOf({ content }), id: "", created: 0, object: "" }));
  const decoded = decodeText(sse([...events, { ...chunkOf({}, "stop"), id: "", created: 0 }]));
  const answer = readAnswer(payloads(decoded.text));
  assert.deepEqual([...answer.ids], ["chatcmpl-0197-attempt 1790000000"]);
  assert.ok(payloads(decoded.text).every((event) => event.includes('"chat.completion.chunk"')));
});

test("identity that a provider gives too late does not change the stream's", () => {
  const decoded = decodeText(sse([{ ...chunkOf({ content: "a" }), id: "", created: 0 }, chunkOf({ content: "b" }), chunkOf({}, "stop")]));
  assert.equal(readAnswer(payloads(decoded.text)).ids.size, 1);
  assert.equal(decoded.facts.responseId, "chatcmpl-1");
});

test("a first chunk without choices goes nowhere, whatever it says of prompt filters", () => {
  const router = { choices: [], created: 0, id: "", model: "", object: "", prompt_filter_results: [] };
  const decoded = decodeText(sse([router, ...HELLO]));
  assert.equal(decoded.text, sse(HELLO, false));
});

test("thinking parts become reasoning_content, text parts content", () => {
  const list = [
    { type: "thinking", thinking: [{ type: "text", text: "hm" }] },
    { type: "text", text: "4" },
  ];
  const decoded = decodeText(sse([chunkOf({ role: "assistant", content: list }), chunkOf({ content: "" }, "stop")]));
  const [first] = payloads(decoded.text);
  const delta = (JSON.parse(first!) as { choices: { delta: unknown }[] }).choices[0]!.delta;
  assert.deepEqual(delta, { role: "assistant", content: "4", reasoning_content: "hm" });
});

test("tool calls leave numbered from zero, with index and type", () => {
  const begin = (index: number | undefined, id: string): object => ({
    ...(index === undefined ? {} : { index }),
    id,
    function: { name: id, arguments: "" },
  });
  const fragments = [
    chunkOf({ tool_calls: [begin(1, "a")] }),
    chunkOf({ tool_calls: [{ index: 1, function: { arguments: '{"x"' } }] }),
    chunkOf({ tool_calls: [{ index: 1, function: { arguments: ":1}" } }] }),
    chunkOf({ tool_calls: [begin(2, "b")] }),
    chunkOf({ tool_calls: [{ index: 2, function: { arguments: "{}" } }] }),
    chunkOf({}, "tool_calls"),
  ];
  const calls = readAnswer(payloads(decodeText(sse(fragments)).text)).choices.get(0)!.calls;
  assert.deepEqual(
    [...calls],
    [
      [0, { id: "a", name: "a", arguments: '{"x":1}' }],
      [1, { id: "b", name: "b", arguments: "{}" }],
    ],
  );
  const whole = payloads(decodeText(sse([chunkOf({ tool_calls: [begin(undefined, "a")] }, "tool_calls")])).text)[0]!;
  assert.match(whole, /"index":0,"type":"function"/);
});

test("several choices finish each for itself", () => {
  const choice = (index: number, delta: object, finish: string | null): object => ({
    ...chunkOf({}),
    choices: [{ index, delta, finish_reason: finish }],
  });
  const events = [
    choice(0, { content: "a" }, null),
    choice(1, { content: "b" }, null),
    choice(0, {}, "stop"),
    choice(1, { content: "c" }, null),
  ];
  assert.equal(decodeText(sse(events, false)).end?.error?.reason, "UPSTREAM_PROTOCOL");
  const decoded = decodeText(sse([...events, choice(1, {}, "length")], false));
  assert.equal(decoded.end?.error, undefined);
  assert.equal(readAnswer(payloads(decoded.text)).choices.get(1)?.text, "bc");
});

test("comments, event names, ids and carriage returns do not reach the caller", () => {
  const body = HELLO.map(
    (event) => `: OPENROUTER PROCESSING\r\n\r\nid: 1\r\nevent: message\r\ndata: ${JSON.stringify(event)}\r\n\r\n`,
  ).join("");
  const decoded = decodeText(`\ufeff${body}data: [DONE]\r\n\r\n`);
  assert.equal(decoded.text, sse(HELLO, false));
});

test("an answer without content is garbage unless it was filtered or cut", () => {
  assert.equal(decodeText(sse([HELLO[0]!, chunkOf({}, "stop")])).end?.garbage, true);
  assert.equal(decodeText(sse([HELLO[0]!, chunkOf({}, "content_filter")])).end?.garbage, false);
  assert.equal(decodeText(sse(HELLO)).end?.garbage, false);
});

test("an endless event is malformed", () => {
  const piece = Buffer.alloc(1 << 20, "x");
  const decoded = decodeChunks([Buffer.from("data: "), ...Array.from({ length: 9 }, () => piece)], openOf(), undefined, false);
  assert.equal(decoded.end?.error?.reason, "UPSTREAM_PROTOCOL");
  assert.equal(decoded.ends, 1);
});
