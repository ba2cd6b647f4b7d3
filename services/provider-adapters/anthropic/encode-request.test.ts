import assert from "node:assert/strict";
import { test } from "node:test";
import { FAST_MODE_BETA } from "./api.ts";
import { translateRequest } from "./encode-request.ts";
import { anthropicCodec } from "./index.ts";
import { CALL, encode, HELLO, refusal, target, TOOLS, warningsOf } from "./request.testkit.ts";
import { backendOf, openOf } from "./testing.ts";

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
