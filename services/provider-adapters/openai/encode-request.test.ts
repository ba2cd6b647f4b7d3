import assert from "node:assert/strict";
import { test } from "node:test";
import { SignalboxError } from "#libs/errors/index.ts";
import { scanTopLevel } from "#libs/json-bytes/index.ts";
import type { BackendConfig } from "#libs/config/model.ts";
import { openaiCodec } from "./api.ts";
import { backendOf, openOf } from "./testkit.ts";

const MESSAGES = [{ role: "user", content: "Grüße 😀" }];

function encode(
  body: unknown,
  backend: Partial<BackendConfig> = {},
  open: Parameters<typeof openOf>[0] = {},
): { body: Record<string, unknown>; warnings: readonly string[]; text: string } {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const encoded = openaiCodec.encode(openOf({ stream: false, body: Buffer.from(text), ...open }), backendOf(backend));
  const out = Buffer.from(encoded.body).toString();
  return { body: JSON.parse(out) as Record<string, unknown>, warnings: encoded.warnings, text: out };
}

test("only the model changes, byte for byte, with known or unknown extents", () => {
  const text = '{ "model" : "chat",\n "messages":[ {"role":"user","content":"x"} ], "unknown": 1.0e3 }';
  const expected = '{ "model" : "upstream-model",\n "messages":[ {"role":"user","content":"x"} ], "unknown": 1.0e3 }';
  assert.equal(encode(text).text, expected);
  assert.equal(encode(text, {}, { fields: [...scanTopLevel(Buffer.from(text))!] }).text, expected);
});

test("streams always ask for usage and keep the caller's other options", () => {
  assert.deepEqual(encode({ model: "m", messages: MESSAGES }, {}, { stream: true }).body["stream_options"], { include_usage: true });
  const given = encode(
    { model: "m", stream_options: { include_usage: false, include_obfuscation: false, continuous_usage_stats: true } },
    {},
    { stream: true },
  );
  assert.deepEqual(given.body["stream_options"], { include_obfuscation: false, include_usage: true });
  assert.match(given.warnings[0]!, /continuous_usage_stats/);
  const mistral = encode({ model: "m", stream_options: { include_usage: true } }, { provider: "mistral" }, { stream: true });
  assert.equal(mistral.body["stream_options"], undefined);
});

test("metadata stay home unless the completion is stored", () => {
  assert.equal(encode({ model: "m", metadata: { team: "a" } }).body["metadata"], undefined);
  assert.equal(encode({ model: "m", store: false, metadata: {} }).body["metadata"], undefined);
  assert.deepEqual(encode({ model: "m", store: true, metadata: { a: "b" } }).body["metadata"], { a: "b" });
});

test("the service tier and the engine priority go only where they are meant", () => {
  assert.equal(encode({ model: "m", service_tier: "flex" }).body["service_tier"], undefined);
  assert.equal(encode({ model: "m", service_tier: "flex" }, { serviceTiers: true }).body["service_tier"], "flex");
  const priority = { enginePriority: -3, enginePrioritySet: true };
  assert.equal(encode({ model: "m", priority: 9 }, { provider: "vllm", enginePriority: true }, priority).body["priority"], -3);
  const sglang = (enginePriority: number): unknown =>
    encode({ model: "m" }, { provider: "sglang", enginePriority: true }, { ...priority, enginePriority }).body["priority"];
  assert.deepEqual(
    [sglang(0), sglang(1), sglang(10)],
    [0, -1, -10],
    "SGLang serves higher values first: ours, lower first, are turned round",
  );
  assert.equal(encode({ model: "m", priority: -99 }, { provider: "vllm" }, priority).body["priority"], undefined);
});

test("the output limit goes under the name the provider knows; ours only where the caller gave none", () => {
  const cases: readonly [BackendConfig["provider"], object, number, object][] = [
    ["openai", { max_tokens: 5 }, 0, { max_completion_tokens: 5 }],
    ["openai", { max_tokens: 5, max_completion_tokens: 7 }, 0, { max_completion_tokens: 7 }],
    ["openai", {}, 100, { max_completion_tokens: 100 }],
    ["openai", { max_completion_tokens: 5 }, 100, { max_completion_tokens: 5 }],
    ["ollama", { max_completion_tokens: 5 }, 0, { max_tokens: 5 }],
    ["ollama", {}, 100, { max_tokens: 100 }],
    ["vllm", { max_tokens: 5 }, 0, { max_tokens: 5 }],
    ["vllm", { max_tokens: null }, 100, { max_tokens: 100 }],
    ["vllm", {}, 0, {}],
  ];
  for (const [provider, given, ceiling, expected] of cases) {
    const { body } = encode({ model: "m", ...given }, { provider }, { maxOutputTokens: ceiling });
    const { model: _, ...rest } = body;
    assert.deepEqual(rest, expected, `${provider} ${JSON.stringify(given)}`);
  }
});

test("hints a provider lacks are dropped, renamed or clamped, and named in a warning", () => {
  const mistral = encode({ model: "m", seed: 7, logit_bias: {}, temperature: 1.9, user: "u" }, { provider: "mistral" });
  assert.deepEqual(mistral.body, { model: "upstream-model", random_seed: 7, temperature: 1.5 });
  assert.deepEqual(
    mistral.warnings.map((warning) => warning.split(":")[0]).toSorted((a, b) => a!.localeCompare(b!)),
    ["logit_bias", "temperature", "user"],
  );
  assert.deepEqual(encode({ model: "m", temperature: 0.2, top_p: 1 }, { model: "gpt-5-mini" }).body, { model: "gpt-5-mini" });
  assert.equal(encode({ model: "m", temperature: 0.2 }, { model: "gpt-5.1" }).body["temperature"], 0.2);
  assert.deepEqual(encode({ model: "m", temperature: 0.2, logit_bias: {}, seed: 1 }, { provider: "vllm" }).warnings, []);
});

test("a resumed answer begins with what was delivered, and its limit shrinks", () => {
  const resumed = { resumePrefix: 'He said "', resumeTokens: 40 };
  const vllm = encode({ model: "m", messages: MESSAGES, max_tokens: 100 }, { provider: "vllm" }, resumed);
  assert.deepEqual(vllm.body["messages"], [...MESSAGES, { role: "assistant", content: 'He said "' }]);
  assert.deepEqual([vllm.body["continue_final_message"], vllm.body["add_generation_prompt"], vllm.body["max_tokens"]], [true, false, 60]);
  const mistral = encode({ model: "m", messages: MESSAGES }, { provider: "mistral" }, resumed);
  assert.deepEqual((mistral.body["messages"] as unknown[])[1], { role: "assistant", content: 'He said "', prefix: true });
});

test("repeated and escaped keys are read as JSON.parse reads them", () => {
  assert.deepEqual(encode('{"model":"a","n":1,"n":2}').body, { model: "upstream-model", n: 2 });
  assert.deepEqual(encode('{"mo\\u0064el":"a","x":1}').body, { model: "upstream-model", x: 1 });
});

test("what is no JSON object is the caller's mistake", () => {
  for (const text of ["", "[]", "{", "1", '{"a":1,}']) {
    assert.throws(
      () => encode(text),
      (error) => error instanceof SignalboxError && error.reason === "REQUEST_MALFORMED",
      text,
    );
  }
});

test("credentials go in the header the provider reads, and only when there are any", () => {
  assert.deepEqual(openaiCodec.authHeaders(backendOf({ provider: "azure" }), "k"), { "api-key": "k" });
  assert.deepEqual(openaiCodec.authHeaders(backendOf({ provider: "groq" }), "k"), { authorization: "Bearer k" });
  assert.deepEqual(openaiCodec.authHeaders(backendOf({ provider: "vllm" }), ""), {});
});
