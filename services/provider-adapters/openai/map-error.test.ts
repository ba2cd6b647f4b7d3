import assert from "node:assert/strict";
import { test } from "node:test";
import type { AttemptError } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { isReason, REASONS } from "#libs/errors/index.ts";
import { SeededRandom } from "#libs/clock/fake.ts";
import { mapError, mapErrorInside } from "./map-error.ts";
import { NOW_MS } from "./testkit.ts";

function map(status: number, body: unknown, headers: Record<string, string> = {}): AttemptError {
  return mapError({ status, headers, body: Buffer.from(typeof body === "string" ? body : JSON.stringify(body)), nowMs: NOW_MS });
}

/** Provider, status, body, and what must come of it. */
const TABLE: readonly [name: string, status: number, body: unknown, expected: Partial<AttemptError>][] = [
  [
    "OpenAI bad key",
    401,
    { error: { message: "Incorrect API key provided: sk-x", type: "invalid_request_error", param: null, code: "invalid_api_key" } },
    { reason: "UPSTREAM_UNAUTHORIZED", code: "invalid_api_key", httpStatus: 401 },
  ],
  [
    "OpenAI missing model",
    404,
    {
      error: {
        message: "The model `x` does not exist or you do not have access to it.",
        type: "invalid_request_error",
        param: null,
        code: "model_not_found",
      },
    },
    { reason: "UPSTREAM_UNAVAILABLE", code: "model_not_found" },
  ],
  [
    "OpenAI context",
    400,
    {
      error: {
        message: "Your input exceeds the context window of this model.",
        type: "invalid_request_error",
        param: "input",
        code: "context_length_exceeded",
      },
    },
    { reason: "UPSTREAM_REJECTED", contextLength: true, param: "input", code: "context_length_exceeded" },
  ],
  [
    "OpenAI rate",
    429,
    { error: { message: "Rate limit reached", type: "tokens", code: "rate_limit_exceeded" } },
    { reason: "UPSTREAM_RATE_LIMITED", type: "tokens" },
  ],
  ["OpenAI ramp", 429, { error: { message: "slow", type: "rate_limit_error", code: "slow_down" } }, { reason: "UPSTREAM_RATE_LIMITED" }],
  [
    "OpenAI quota",
    429,
    { error: { message: "You exceeded your current quota", type: "insufficient_quota", code: "credit_balance_exhausted" } },
    { reason: "UPSTREAM_UNAUTHORIZED", retryAfterMs: 0 },
  ],
  [
    "OpenAI project limit",
    429,
    { error: { message: "limit", type: "x", code: "project_spend_limit_exceeded" } },
    { reason: "UPSTREAM_UNAUTHORIZED" },
  ],
  [
    "OpenAI overloaded",
    503,
    { error: { message: "overloaded", type: "service_unavailable_error", code: "server_is_overloaded" } },
    { reason: "UPSTREAM_UNAVAILABLE" },
  ],
  [
    "OpenAI parameter",
    400,
    { error: { message: "Unsupported parameter", type: "invalid_request_error", param: "max_tokens", code: "unsupported_parameter" } },
    { reason: "UPSTREAM_REJECTED", param: "max_tokens", contextLength: false },
  ],
  [
    "Azure key",
    401,
    { error: { code: "401", message: "Access denied due to invalid subscription key" } },
    { reason: "UPSTREAM_UNAUTHORIZED" },
  ],
  [
    "Azure rate",
    429,
    { error: { code: "RateLimitReached", message: "m", details: "text" } },
    { reason: "UPSTREAM_RATE_LIMITED", code: "RateLimitReached" },
  ],
  ["Mistral key", 401, { detail: "Invalid API Key" }, { reason: "UPSTREAM_UNAUTHORIZED", message: "Invalid API Key" }],
  [
    "Mistral validation",
    422,
    { detail: [{ type: "extra_forbidden", loc: ["body", "user"], msg: "Extra inputs are not permitted" }] },
    { reason: "UPSTREAM_REJECTED", message: "body.user: Extra inputs are not permitted" },
  ],
  [
    "Mistral model",
    400,
    { object: "error", message: "Invalid model: x", type: "invalid_model", code: "1500" },
    { reason: "UPSTREAM_UNAVAILABLE" },
  ],
  [
    "xAI key as 400",
    400,
    { code: "invalid-argument", error: "Incorrect API key provided: xx." },
    { reason: "UPSTREAM_UNAUTHORIZED", code: "invalid-argument" },
  ],
  ["DeepSeek balance", 402, { error: { message: "Insufficient Balance", type: "unknown_error" } }, { reason: "UPSTREAM_UNAUTHORIZED" }],
  [
    "Cohere long",
    400,
    { error_type: "TOO_MANY_TOKENS", id: "x", message: "too many tokens" },
    { reason: "UPSTREAM_REJECTED", contextLength: true },
  ],
  [
    "Perplexity",
    401,
    { error: { message: "Invalid API key", type: "invalid_api_key", code: 401 } },
    { reason: "UPSTREAM_UNAUTHORIZED", code: "401" },
  ],
  [
    "OpenRouter rate",
    429,
    { error: { message: "Provider returned error", code: 429, metadata: { raw: "x" } }, user_id: "u" },
    { reason: "UPSTREAM_RATE_LIMITED" },
  ],
  ["OpenRouter moderation", 403, { error: { message: "Your input was flagged", code: 403 } }, { reason: "UPSTREAM_REJECTED" }],
  ["Ollama native", 404, { error: "model 'x' not found" }, { reason: "UPSTREAM_UNAVAILABLE", message: "model 'x' not found" }],
  [
    "llama.cpp context",
    400,
    {
      error: {
        code: 400,
        message: "request (9000 tokens) exceeds the available context size (4096 tokens)",
        type: "exceed_context_size_error",
        n_ctx: 4096,
      },
    },
    { reason: "UPSTREAM_REJECTED", contextLength: true },
  ],
  [
    "llama.cpp loading",
    503,
    { error: { code: 503, message: "Loading model", type: "unavailable_error" } },
    { reason: "UPSTREAM_UNAVAILABLE" },
  ],
  [
    "vLLM context",
    400,
    { error: { message: "This model's maximum context length is 4096 tokens.", type: "BadRequestError", param: null, code: 400 } },
    { reason: "UPSTREAM_REJECTED", contextLength: true },
  ],
  [
    "SGLang flat",
    400,
    { object: "error", message: "bad", type: "BadRequest", param: "n", code: 400 },
    { reason: "UPSTREAM_REJECTED", message: "bad", param: "n" },
  ],
  [
    "TGI",
    422,
    { error: "Input validation error: `inputs` tokens", error_type: "validation" },
    { reason: "UPSTREAM_REJECTED", type: "validation" },
  ],
  [
    "Groq too large",
    413,
    { error: { message: "Request too large: tokens per minute (TPM)", type: "tokens", code: "rate_limit_exceeded" } },
    { reason: "UPSTREAM_RATE_LIMITED" },
  ],
  [
    "Groq tool",
    400,
    { error: { message: "Failed to call a function.", type: "invalid_request_error", code: "tool_use_failed" } },
    { reason: "UPSTREAM_PROTOCOL" },
  ],
  [
    "Gemini compatible key",
    400,
    [
      {
        error: {
          code: 400,
          message: "API key not valid.",
          status: "INVALID_ARGUMENT",
          details: [{ "@type": "ErrorInfo", reason: "API_KEY_INVALID" }],
        },
      },
    ],
    { reason: "UPSTREAM_UNAUTHORIZED" },
  ],
  [
    "Gemini compatible rate",
    429,
    {
      error: {
        code: 429,
        message: "m",
        status: "RESOURCE_EXHAUSTED",
        details: [{ "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay: "34.4s" }],
      },
    },
    { reason: "UPSTREAM_RATE_LIMITED", retryAfterMs: 34_400 },
  ],
  ["a web page", 502, "<html><h1>Bad Gateway</h1></html>", { reason: "UPSTREAM_UNAVAILABLE", message: "The provider answered 502." }],
  ["nothing", 500, "", { reason: "UPSTREAM_UNAVAILABLE" }],
  ["wrong path", 404, "Not Found", { reason: "UPSTREAM_UNAVAILABLE" }],
  ["time-out", 408, "", { reason: "UPSTREAM_UNAVAILABLE" }],
  ["overload", 529, {}, { reason: "UPSTREAM_UNAVAILABLE" }],
  ["conflict", 409, { error: { message: "c" } }, { reason: "UPSTREAM_REJECTED" }],
  ["redirect", 307, "", { reason: "UPSTREAM_UNAVAILABLE" }],
];

for (const [name, status, body, expected] of TABLE) {
  test(`${name} (${status}) is ${expected.reason}`, () => {
    const error = map(status, body);
    for (const key of Object.keys(expected) as (keyof AttemptError)[]) assert.deepEqual(error[key], expected[key], key);
  });
}

test("the wait comes from the headers first, then from the body", () => {
  assert.equal(map(429, {}, { "retry-after": "7" }).retryAfterMs, 7000);
  assert.equal(map(429, { error: { details: [{ retryDelay: "2s" }] } }, { "retry-after-ms": "500" }).retryAfterMs, 500);
  assert.equal(map(503, "", { "retry-after": "3" }).retryAfterMs, 3000);
});

test("an error inside a 200 is judged by its code, its words, and else held against the provider", () => {
  assert.equal(mapErrorInside({ error: { message: "m", code: 429 } }).reason, "UPSTREAM_RATE_LIMITED");
  assert.equal(mapErrorInside({ error: { message: "m", code: "context_length_exceeded" } }).contextLength, true);
  assert.equal(mapErrorInside({ error: "boom" }).reason, "UPSTREAM_UNAVAILABLE");
  assert.equal(mapErrorInside({ object: "error", message: "m" }).httpStatus, 200);
});

test("any bytes with any status map to a reason of the closed table, and a long message is cut", () => {
  const random = new SeededRandom(5);
  const seeds = TABLE.map(([, , body]) => Buffer.from(JSON.stringify(body)));
  for (let round = 0; round < 20_000; round++) {
    const body = Buffer.from(seeds[random.int(seeds.length)]!);
    for (let flips = random.int(5); flips > 0; flips--) body[random.int(body.length)] = random.int(128);
    const error = mapError({ status: 300 + random.int(300), headers: {}, body, nowMs: NOW_MS });
    assert.ok(isReason(error.reason) && error.reason in REASONS);
  }
  assert.ok(map(400, { error: { message: "x".repeat(10_000) } }).message.length < 2_100);
});
