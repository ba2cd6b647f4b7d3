import assert from "node:assert/strict";
import { test } from "node:test";
import { SignalboxError } from "#libs/errors/index.ts";
import { FAST_MODE_BETA, type AnthropicTarget, type JsonObject } from "./api.ts";
import { translateRequest } from "./encode-request.ts";
import { anthropicCodec } from "./index.ts";
import { backendOf, openOf } from "./testing.ts";

const HELLO = [{ role: "user", content: "hello" }];

function target(fields: Partial<AnthropicTarget> = {}): AnthropicTarget {
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
function encode(body: JsonObject, fields: Partial<AnthropicTarget> = {}): JsonObject {
  return JSON.parse(JSON.stringify(translateRequest({ messages: HELLO, ...body }, target(fields)).request)) as JsonObject;
}

function warningsOf(body: JsonObject, fields: Partial<AnthropicTarget> = {}): readonly string[] {
  return translateRequest({ messages: HELLO, ...body }, target(fields)).warnings;
}

function refusal(body: JsonObject): SignalboxError {
  try {
    translateRequest({ messages: HELLO, ...body }, target());
  } catch (error) {
    assert.ok(error instanceof SignalboxError);
    return error;
  }
  throw new Error("was not refused");
}

const CALL = (id: string, name = "f", args = "{}"): JsonObject => ({ id, type: "function", function: { name, arguments: args } });
const TOOLS = [
  { type: "function", function: { name: "f", description: "d", parameters: { type: "object", properties: { a: { type: "string" } } } } },
];

test("a plain request becomes a plain request with the model's own limit", () => {
  assert.deepEqual(encode({}), {
    model: "claude-sonnet-4-5",
    max_tokens: 8192,
    messages: [{ role: "user", content: [{ type: "text", text: "hello" }] }],
  });
});

test("leading system and developer messages are joined into one system block", () => {
  const messages = [{ role: "system", content: "one" }, { role: "developer", content: [{ type: "text", text: "two" }] }, ...HELLO];
  assert.deepEqual(encode({ messages })["system"], [{ type: "text", text: "one\n\ntwo" }]);
});

test("a system block that is marked for caching stays apart", () => {
  const cached = { role: "system", content: [{ type: "text", text: "long", cache_control: { type: "ephemeral" } }] };
  const messages = [cached, { role: "system", content: "short" }, ...HELLO];
  assert.deepEqual(encode({ messages })["system"], [
    { type: "text", text: "long", cache_control: { type: "ephemeral" } },
    { type: "text", text: "short" },
  ]);
});

test("a later system message becomes the user's text where it stands", () => {
  const messages = [...HELLO, { role: "assistant", content: "hi" }, { role: "system", content: "be brief" }];
  assert.deepEqual((encode({ messages })["messages"] as unknown[]).at(-1), { role: "user", content: [{ type: "text", text: "be brief" }] });
  assert.match(warningsOf({ messages })[0]!, /^messages: a system message after the first turn/);
});

test("a conversation of instructions only asks the last of them", () => {
  const messages = [{ role: "system", content: "say hi" }];
  assert.deepEqual(encode({ messages })["messages"], [{ role: "user", content: [{ type: "text", text: "say hi" }] }]);
});

test("messages of one role in a row are merged and empty ones disappear", () => {
  const messages = [
    { role: "user", content: "a" },
    { role: "user", content: "" },
    { role: "user", content: [{ type: "text", text: "b" }] },
    { role: "assistant", content: "" },
    { role: "user", content: "c" },
  ];
  assert.deepEqual(encode({ messages })["messages"], [
    {
      role: "user",
      content: [
        { type: "text", text: "a" },
        { type: "text", text: "b" },
        { type: "text", text: "c" },
      ],
    },
  ]);
});

test("a conversation that begins with the assistant gets a user before it", () => {
  const messages = [{ role: "assistant", content: "hi" }, ...HELLO];
  assert.equal((encode({ messages })["messages"] as { role: string }[])[0]!.role, "user");
  assert.equal(warningsOf({ messages }).length, 1);
});

test("an assistant's text goes before its tool calls, whose arguments are parsed", () => {
  const assistant = { role: "assistant", content: "look", tool_calls: [CALL("t1", "f", '{"a":"x"}'), CALL("t2", "f", "")] };
  const messages = [
    ...HELLO,
    assistant,
    { role: "tool", tool_call_id: "t1", content: "1" },
    { role: "tool", tool_call_id: "t2", content: "2" },
  ];
  assert.deepEqual((encode({ messages, tools: TOOLS })["messages"] as unknown[])[1], {
    role: "assistant",
    content: [
      { type: "text", text: "look" },
      { type: "tool_use", id: "t1", name: "f", input: { a: "x" } },
      { type: "tool_use", id: "t2", name: "f", input: {} },
    ],
  });
});

test("all results of a turn go into one user message, first and in the order of the calls", () => {
  const messages = [
    ...HELLO,
    { role: "assistant", content: null, tool_calls: [CALL("t1"), CALL("t2")] },
    { role: "tool", tool_call_id: "t2", content: [{ type: "text", text: "two" }] },
    { role: "system", content: "hurry" },
    { role: "tool", tool_call_id: "t1", content: "one", is_error: true },
    { role: "user", content: "and?" },
  ];
  assert.deepEqual((encode({ messages, tools: TOOLS })["messages"] as unknown[]).slice(2), [
    {
      role: "user",
      content: [
        { type: "tool_result", tool_use_id: "t1", content: "one", is_error: true },
        { type: "tool_result", tool_use_id: "t2", content: [{ type: "text", text: "two" }] },
        { type: "text", text: "hurry" },
        { type: "text", text: "and?" },
      ],
    },
  ]);
});

for (const [what, messages, param] of [
  [
    "a missing result",
    [...HELLO, { role: "assistant", tool_calls: [CALL("t1"), CALL("t2")] }, { role: "tool", tool_call_id: "t1", content: "" }],
    "messages[1].tool_calls",
  ],
  ["a result of nothing", [...HELLO, { role: "tool", tool_call_id: "t1", content: "" }], "messages[1].tool_call_id"],
  [
    "a foreign result",
    [...HELLO, { role: "assistant", tool_calls: [CALL("t1")] }, { role: "tool", tool_call_id: "x", content: "" }],
    "messages[2].tool_call_id",
  ],
  [
    "broken arguments",
    [...HELLO, { role: "assistant", tool_calls: [CALL("t1", "f", "{")] }],
    "messages[1].tool_calls[0].function.arguments",
  ],
  [
    "arguments that are no object",
    [...HELLO, { role: "assistant", tool_calls: [CALL("t1", "f", "[1]")] }],
    "messages[1].tool_calls[0].function.arguments",
  ],
  ["two calls with one id", [...HELLO, { role: "assistant", tool_calls: [CALL("t1"), CALL("t1")] }], "messages[1].tool_calls"],
  ["an unknown role", [{ role: "robot", content: "x" }], "messages[0].role"],
  ["no messages", [], "messages"],
] as const) {
  test(`${what} is refused before it costs a call`, () => {
    const error = refusal({ messages });
    assert.equal(error.httpStatus, 400);
    assert.equal(error.param, param);
  });
}

test("an id the API would refuse is rewritten the same way in call and result", () => {
  const id = "functions.f:0";
  const messages = [...HELLO, { role: "assistant", tool_calls: [CALL(id)] }, { role: "tool", tool_call_id: id, content: "r" }];
  const [, assistant, user] = encode({ messages, tools: TOOLS })["messages"] as { content: { id?: string; tool_use_id?: string }[] }[];
  assert.match(assistant!.content[0]!.id!, /^[a-zA-Z0-9_-]+$/);
  assert.equal(user!.content[0]!.tool_use_id, assistant!.content[0]!.id);
});

test("tools of the history that are not declared are declared bare and forbidden", () => {
  const messages = [...HELLO, { role: "assistant", tool_calls: [CALL("t1", "old")] }, { role: "tool", tool_call_id: "t1", content: "r" }];
  const request = encode({ messages });
  assert.deepEqual(request["tools"], [{ name: "old", input_schema: { type: "object", properties: {} } }]);
  assert.deepEqual(request["tool_choice"], { type: "none" });
});

test("deprecated functions work like tools", () => {
  const messages = [
    ...HELLO,
    { role: "assistant", content: null, function_call: { name: "f", arguments: "{}" } },
    { role: "function", name: "f", content: "r" },
  ];
  const request = encode({ messages, functions: [{ name: "f" }], function_call: { name: "f" } });
  assert.deepEqual(request["tool_choice"], { type: "tool", name: "f" });
  assert.deepEqual((request["messages"] as { content: unknown }[])[2]!.content, [
    { type: "tool_result", tool_use_id: "function_f", content: "r" },
  ]);
});

test("thinking blocks come back unmodified before the text they belong to", () => {
  const thinking = { type: "thinking", thinking: "hm", signature: "sig" };
  const redacted = { type: "redacted_thinking", data: "xyz" };
  const messages = [
    ...HELLO,
    { role: "assistant", content: "so", reasoning_content: "hm", thinking_blocks: [thinking, redacted] },
    { role: "user", content: "go on" },
  ];
  assert.deepEqual((encode({ messages })["messages"] as { content: unknown }[])[1]!.content, [
    thinking,
    redacted,
    { type: "text", text: "so" },
  ]);
});

test("images and files become blocks with their source", () => {
  const content = [
    { type: "image_url", image_url: { url: "data:image/png;base64,QUJD", detail: "high" } },
    { type: "image_url", image_url: { url: "https://example.com/a.jpg" } },
    { type: "file", file: { filename: "a.pdf", file_data: "data:application/pdf;base64,QUJD" } },
    { type: "file", file: { file_data: "data:text/plain;base64,aGk=" } },
    { type: "file", file: { file_id: "file_1" } },
  ];
  assert.deepEqual((encode({ messages: [{ role: "user", content }] })["messages"] as { content: unknown }[])[0]!.content, [
    { type: "image", source: { type: "base64", media_type: "image/png", data: "QUJD" } },
    { type: "image", source: { type: "url", url: "https://example.com/a.jpg" } },
    { type: "document", source: { type: "base64", media_type: "application/pdf", data: "QUJD" }, title: "a.pdf" },
    { type: "document", source: { type: "text", media_type: "text/plain", data: "hi" } },
    { type: "document", source: { type: "file", file_id: "file_1" } },
  ]);
});

for (const [what, part, param, code] of [
  [
    "an image from a file path",
    { type: "image_url", image_url: { url: "/etc/passwd" } },
    "messages[0].content[0].image_url.url",
    "invalid_value",
  ],
  ["audio", { type: "input_audio", input_audio: {} }, "messages[0].content[0].input_audio", "unsupported_parameter"],
  [
    "a spreadsheet",
    { type: "file", file: { file_data: "data:application/vnd.ms-excel;base64,QQ==" } },
    "messages[0].content[0].file.file_data",
    "unsupported_parameter",
  ],
] as const) {
  test(`${what} is refused with its place`, () => {
    const error = refusal({ messages: [{ role: "user", content: [part] }] });
    assert.equal(error.param, param);
    assert.equal(error.code, code);
  });
}

test("max_completion_tokens beats max_tokens, and both are held to the model's limit", () => {
  assert.equal(encode({ max_tokens: 10, max_completion_tokens: 20 })["max_tokens"], 20);
  assert.equal(encode({ max_tokens: 10 })["max_tokens"], 10);
  assert.equal(encode({}, { enforcedOutputTokens: 77 })["max_tokens"], 77);
  assert.equal(encode({ max_tokens: 99_999 })["max_tokens"], 8192);
  assert.deepEqual(warningsOf({ max_tokens: 99_999 }), ["max_tokens: clamped to 8192"]);
  assert.equal(refusal({ max_tokens: 0 }).param, "max_tokens");
});

test("stop becomes stop_sequences without the blank ones", () => {
  assert.deepEqual(encode({ stop: "END" })["stop_sequences"], ["END"]);
  assert.deepEqual(encode({ stop: ["\n\n", "a", "b"] })["stop_sequences"], ["a", "b"]);
  assert.match(warningsOf({ stop: ["\n"] })[0]!, /^stop: /);
});

test("the temperature is clamped to the provider's range", () => {
  assert.equal(encode({ temperature: 1.7 })["temperature"], 1);
  assert.deepEqual(warningsOf({ temperature: 1.7 }), ["temperature: clamped to 1"]);
  assert.equal(encode({ temperature: 0.3 })["temperature"], 0.3);
});

test("temperature and top_p go together only to models that take both", () => {
  assert.deepEqual(warningsOf({ temperature: 0.3, top_p: 0.9 }), ["top_p: dropped, the model takes temperature or top_p, not both"]);
  const old = encode({ temperature: 0.3, top_p: 0.9 }, { model: "claude-3-haiku-20240307" });
  assert.deepEqual([old["temperature"], old["top_p"]], [0.3, 0.9]);
});

for (const [what, fields] of [
  ["the version of October 2026", { version: "2026-10-21" }],
  ["a newest model", { model: "claude-opus-5" }],
] as const) {
  test(`${what} gets no sampling parameters, not even at their defaults`, () => {
    const body = { temperature: 1, top_p: 1, top_k: 5 };
    const request = encode(body, fields);
    assert.deepEqual([request["temperature"], request["top_p"], request["top_k"]], [undefined, undefined, undefined]);
    assert.deepEqual(
      warningsOf(body, fields).map((warning) => warning.split(":")[0]),
      ["temperature", "top_p", "top_k"],
    );
  });
}

test("hints the provider lacks are dropped and named, defaults without a word", () => {
  const body = {
    seed: 1,
    frequency_penalty: 0.5,
    presence_penalty: 0,
    logit_bias: { "1": 2 },
    verbosity: "low",
    made_up: 1,
    metadata: { a: "b" },
  };
  assert.deepEqual(
    warningsOf(body).map((warning) => warning.split(":")[0]),
    ["frequency_penalty", "logit_bias", "seed", "verbosity", "made_up"],
  );
});

for (const [param, value] of [
  ["n", 2],
  ["logprobs", true],
  ["top_logprobs", 3],
  ["modalities", ["text", "audio"]],
] as const) {
  test(`${param} changes the answer's meaning and is refused`, () => {
    const error = refusal({ [param]: value });
    assert.equal(error.reason, "FEATURE_UNSUPPORTED");
    assert.equal(error.param, param);
  });
}

test("one choice and no log probabilities are what the provider gives anyway", () => {
  assert.deepEqual(warningsOf({ n: 1, logprobs: false, top_logprobs: 0 }), []);
});

test("a JSON schema goes to output_config, closed and without the keywords it refuses", () => {
  const schema = { type: "object", properties: { age: { type: "integer", minimum: 0, description: "years" } }, required: ["age"] };
  const request = encode({ response_format: { type: "json_schema", json_schema: { name: "p", schema } } });
  assert.deepEqual(request["output_config"], {
    format: {
      type: "json_schema",
      schema: {
        type: "object",
        properties: { age: { type: "integer", description: "years\n{minimum: 0}" } },
        required: ["age"],
        additionalProperties: false,
      },
    },
  });
});

test("JSON mode is asked for in the system prompt", () => {
  const messages = [{ role: "system", content: "be kind" }, ...HELLO];
  const system = encode({ messages, response_format: { type: "json_object" } })["system"] as { text: string }[];
  assert.equal(system.length, 2);
  assert.match(system[1]!.text, /JSON object/);
});

for (const [asked, expected] of [
  ["auto", { type: "auto" }],
  ["none", { type: "none" }],
  ["required", { type: "any" }],
  [
    { type: "function", function: { name: "f" } },
    { type: "tool", name: "f" },
  ],
  [{ type: "allowed_tools", allowed_tools: { mode: "required", tools: [{ type: "function", function: { name: "f" } }] } }, { type: "any" }],
] as const) {
  test(`tool_choice ${JSON.stringify(asked).slice(0, 40)} becomes ${JSON.stringify(expected)}`, () => {
    assert.deepEqual(encode({ tools: TOOLS, tool_choice: asked })["tool_choice"], expected);
  });
}

test("an allowed list leaves the other tools out", () => {
  const tools = [...TOOLS, { type: "function", function: { name: "g" } }];
  const choice = { type: "allowed_tools", allowed_tools: { mode: "auto", tools: [{ type: "function", function: { name: "g" } }] } };
  assert.deepEqual(encode({ tools, tool_choice: choice })["tools"], [{ name: "g", input_schema: { type: "object", properties: {} } }]);
});

test("parallel_tool_calls false forbids parallel use whatever the choice", () => {
  const serial = { tools: TOOLS, parallel_tool_calls: false };
  assert.deepEqual(encode(serial)["tool_choice"], { type: "auto", disable_parallel_tool_use: true });
  assert.deepEqual(encode({ ...serial, tool_choice: "required" })["tool_choice"], { type: "any", disable_parallel_tool_use: true });
  assert.deepEqual(encode({ ...serial, tool_choice: "none" })["tool_choice"], { type: "none" });
});

test("strict tools reach the models that know them", () => {
  const tools = [{ type: "function", function: { name: "f", strict: true } }];
  assert.equal((encode({ tools })["tools"] as JsonObject[])[0]!["strict"], true);
  assert.equal((encode({ tools }, { model: "claude-3-5-haiku" })["tools"] as JsonObject[])[0]!["strict"], undefined);
});

test("custom tools are refused", () => {
  assert.equal(refusal({ tools: [{ type: "custom", custom: { name: "c" } }] }).param, "tools[0].type");
});

for (const [model, effort, thinking, outputConfig] of [
  ["claude-opus-5", "xhigh", { type: "adaptive", display: "summarized" }, { effort: "xhigh" }],
  ["claude-sonnet-4-6", "minimal", { type: "adaptive" }, { effort: "low" }],
  ["claude-sonnet-4-6", "xhigh", { type: "adaptive" }, { effort: "high" }],
  ["claude-opus-4-5-20251101", "max", { type: "enabled", budget_tokens: 6553 }, { effort: "high" }],
  ["claude-sonnet-4-5", "medium", { type: "enabled", budget_tokens: 4096 }, undefined],
  ["claude-3-7-sonnet-20250219", "low", { type: "enabled", budget_tokens: 1024 }, undefined],
  ["claude-3-5-haiku-20241022", "high", undefined, undefined],
  ["claude-opus-5", "none", { type: "disabled" }, undefined],
  ["claude-3-haiku-20240307", "none", undefined, undefined],
] as const) {
  test(`${model} thinks with effort ${effort} in its own way`, () => {
    const request = encode({ reasoning_effort: effort }, { model });
    assert.deepEqual(request["thinking"], thinking);
    assert.deepEqual(request["output_config"], outputConfig);
  });
}

test("thinking steps back where it would be refused", () => {
  assert.equal(encode({ reasoning_effort: "high", max_tokens: 1000 })["thinking"], undefined);
  assert.equal(encode({ reasoning_effort: "high", tools: TOOLS, tool_choice: "required" })["thinking"], undefined);
  const messages = [...HELLO, { role: "assistant", tool_calls: [CALL("t1")] }, { role: "tool", tool_call_id: "t1", content: "r" }];
  assert.equal(encode({ reasoning_effort: "high", tools: TOOLS, messages })["thinking"], undefined);
  assert.deepEqual(warningsOf({ reasoning_effort: "low", temperature: 0.2 }), [
    "temperature: dropped, it cannot be combined with thinking",
  ]);
});

test("the user becomes the metadata's user_id, the safety identifier first", () => {
  assert.deepEqual(encode({ user: "u", safety_identifier: "s" })["metadata"], { user_id: "s" });
  assert.deepEqual(encode({ user: "u" })["metadata"], { user_id: "u" });
  assert.equal(encode({ user: "u".repeat(300) })["metadata"], undefined);
});

test("a service tier goes upstream only where the backend is configured for it", () => {
  assert.equal(encode({ service_tier: "auto" })["service_tier"], undefined);
  assert.equal(encode({ service_tier: "default" }, { serviceTiers: true })["service_tier"], "auto");
  assert.equal(encode({ service_tier: "flex" }, { serviceTiers: true })["service_tier"], "standard_only");
  const fast = translateRequest({ messages: HELLO, service_tier: "priority" }, target({ serviceTiers: true, model: "claude-opus-4-6" }));
  assert.equal(fast.request.speed, "fast");
  assert.deepEqual(fast.betas, [FAST_MODE_BETA]);
});

test("a resumed answer goes back as the assistant's unfinished turn, without thinking", () => {
  const request = encode({ reasoning_effort: "high" }, { resumePrefix: "Once upon " });
  assert.deepEqual((request["messages"] as unknown[]).at(-1), { role: "assistant", content: [{ type: "text", text: "Once upon" }] });
  assert.equal(request["thinking"], undefined);
});

test("version and credentials follow the backend's configuration", () => {
  const old = anthropicCodec.encode(openOf({ messages: HELLO }), backendOf());
  assert.deepEqual([old.path, old.headers["anthropic-version"], old.stream], ["/v1/messages", "2023-06-01", true]);
  assert.deepEqual(anthropicCodec.authHeaders(backendOf(), "k"), { "x-api-key": "k" });
  const backend = backendOf({ anthropicVersion: "2026-10-21", url: "https://gateway.example/v1" });
  assert.equal(anthropicCodec.encode(openOf({ messages: HELLO }), backend).path, "/messages");
  assert.deepEqual(anthropicCodec.authHeaders(backend, "k"), { authorization: "Bearer k" });
  assert.deepEqual(anthropicCodec.authHeaders(backend, ""), {});
});

test("a body that is no JSON object is the caller's mistake", () => {
  for (const body of ["{", "[]", "null", ""]) {
    assert.throws(() => anthropicCodec.encode(openOf(body), backendOf()), { reason: "REQUEST_MALFORMED" });
  }
});

test("a resumed answer costs its output limit what was delivered, and models that take no beginning refuse", () => {
  const resumed = { resumePrefix: "So far", resumeTokens: 30 };
  assert.equal(encode({ max_tokens: 100 }, resumed)["max_tokens"], 70);
  assert.equal(encode({ max_tokens: 20 }, resumed)["max_tokens"], 1);
  assert.equal(encode({}, { ...resumed, enforcedOutputTokens: 50 })["max_tokens"], 20);
  assert.throws(() => encode({}, { ...resumed, model: "claude-opus-4-6" }), { reason: "FEATURE_UNSUPPORTED" });
});
