import assert from "node:assert/strict";
import { test } from "node:test";
import type { UpstreamHeaders } from "../codec.ts";
import { anthropicCodec } from "./index.ts";

const NOW = Date.parse("2026-11-22T12:00:00Z");

function map(status: number, body: string, headers: UpstreamHeaders = {}): ReturnType<typeof anthropicCodec.mapError> {
  return anthropicCodec.mapError({ status, headers, body: Buffer.from(body), nowMs: NOW });
}

const error = (type: string, message: string, details?: object): string =>
  JSON.stringify({ type: "error", error: { type, message, details }, request_id: "r" });

for (const [status, type, reason] of [
  [400, "invalid_request_error", "UPSTREAM_REJECTED"],
  [401, "authentication_error", "UPSTREAM_UNAUTHORIZED"],
  [402, "billing_error", "UPSTREAM_UNAUTHORIZED"],
  [403, "permission_error", "UPSTREAM_UNAUTHORIZED"],
  [404, "not_found_error", "UPSTREAM_UNAVAILABLE"],
  [409, "conflict_error", "UPSTREAM_UNAVAILABLE"],
  [413, "request_too_large", "UPSTREAM_REJECTED"],
  [429, "rate_limit_error", "UPSTREAM_RATE_LIMITED"],
  [500, "api_error", "UPSTREAM_UNAVAILABLE"],
  [504, "timeout_error", "UPSTREAM_TIMEOUT"],
  [529, "overloaded_error", "UPSTREAM_UNAVAILABLE"],
] as const) {
  test(`${status} ${type} is ${reason}`, () => {
    const mapped = map(status, error(type, "what it says"));
    assert.deepEqual([mapped.reason, mapped.httpStatus, mapped.type, mapped.message], [reason, status, type, "what it says"]);
    assert.equal(mapped.contextLength, false);
  });
}

test("a prompt that is too long could fit elsewhere", () => {
  const mapped = map(400, error("invalid_request_error", "prompt is too long: 3333404 tokens > 200000 maximum"));
  assert.deepEqual([mapped.reason, mapped.contextLength, mapped.code], ["UPSTREAM_REJECTED", true, "context_length_exceeded"]);
});

test("a rate limit says how long to wait", () => {
  assert.equal(map(429, error("rate_limit_error", "slow"), { "retry-after": "12" }).retryAfterMs, 12_000);
});

test("a spend limit is not waited for", () => {
  const mapped = map(429, error("rate_limit_error", "limit", { error_code: "enforced_spend_limit_reached" }));
  assert.deepEqual(
    [mapped.reason, mapped.code, mapped.type, mapped.retryAfterMs],
    ["UPSTREAM_UNAUTHORIZED", "enforced_spend_limit_reached", "insufficient_quota", 0],
  );
});

for (const message of ["Your credit balance is too low to access the API", "You have reached your specified API usage limits."]) {
  test(`an account without money is not the caller's mistake: ${message.slice(0, 24)}`, () => {
    assert.deepEqual(
      [map(400, error("invalid_request_error", message)).reason, map(400, error("x", message)).type],
      ["UPSTREAM_UNAUTHORIZED", "insufficient_quota"],
    );
  });
}

for (const [body, message] of [
  ["<html>502</html>", "HTTP 502"],
  ["", "HTTP 502"],
  ["upstream gone", "upstream gone"],
  ['{"error":"flat"}', "flat"],
  ['{"detail":"other"}', "other"],
  ['{"message":"third"}', "third"],
  ["[1]", "[1]"],
] as const) {
  test(`a body of another shape is read too: ${body.slice(0, 20)}`, () => {
    assert.equal(map(502, body).message, message);
  });
}

test("resets are RFC 3339 times", () => {
  const state = anthropicCodec.rateLimit(
    {
      "anthropic-ratelimit-requests-limit": "50",
      "anthropic-ratelimit-requests-remaining": "49",
      "anthropic-ratelimit-requests-reset": "2026-11-22T12:00:01.500Z",
      "anthropic-ratelimit-input-tokens-limit": "1000",
      "anthropic-ratelimit-input-tokens-remaining": "900",
      "anthropic-ratelimit-input-tokens-reset": "2026-11-22T12:00:30Z",
    },
    NOW,
  )!;
  assert.deepEqual(
    [state.limitRequests, state.remainingRequests, state.resetRequestsMs, state.limitTokens, state.remainingTokens, state.resetTokensMs],
    [50, 49, 1500, 1000, 900, 30_000],
  );
  assert.equal(anthropicCodec.rateLimit({}, NOW), undefined);
});
