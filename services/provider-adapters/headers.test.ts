import assert from "node:assert/strict";
import { test } from "node:test";
import { durationMs, rateLimitOf, retryAfterMs, retryInfoMs } from "./headers.ts";

const NOW_MS = Date.parse("2026-11-20T10:00:00Z");

test("Retry-After is read in every form a provider uses", () => {
  assert.equal(retryAfterMs({ "retry-after": "7" }, NOW_MS), 7000);
  assert.equal(retryAfterMs({ "retry-after": "0.25" }, NOW_MS), 250);
  assert.equal(retryAfterMs({ "retry-after": "Fri, 20 Nov 2026 10:00:30 GMT" }, NOW_MS), 30_000);
  assert.equal(retryAfterMs({ "retry-after": "Fri, 20 Nov 2026 09:00:00 GMT" }, NOW_MS), 0);
  assert.equal(retryAfterMs({ "retry-after-ms": "120", "retry-after": "1" }, NOW_MS), 120);
  assert.equal(retryAfterMs({ "retry-after": ["3", "9"] }, NOW_MS), 3000);
  assert.equal(retryInfoMs([{ "@type": "x" }, { "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay: "34.4s" }]), 34_400);
});

test("nonsense in Retry-After states nothing, and no wait is longer than a day", () => {
  for (const value of ["", "soon", "-5", "NaN"]) assert.equal(retryAfterMs({ "retry-after": value }, NOW_MS), 0, value);
  assert.equal(retryAfterMs({ "retry-after": "99999999" }, NOW_MS), 86_400_000);
  assert.equal(retryInfoMs("x"), 0);
  assert.equal(retryInfoMs([null, { retryDelay: "never" }]), 0);
});

test("Go durations and whole seconds are read, anything else is not stated", () => {
  const cases: readonly [string, number][] = [
    ["12ms", 12],
    ["0s", 0],
    ["6m0s", 360_000],
    ["1h2m3.5s", 3_723_500],
    ["2m59.56s", 179_560],
    ["42", 42_000],
    ["", -1],
    ["1s?", -1],
    ["-1", -1],
  ];
  for (const [text, expected] of cases) assert.ok(Math.abs(durationMs(text) - expected) < 1e-6, text);
});

test("each header dialect gives the same state", () => {
  const openai = rateLimitOf(
    {
      "x-ratelimit-limit-requests": "10000",
      "x-ratelimit-limit-tokens": "200000",
      "x-ratelimit-remaining-requests": "9999",
      "x-ratelimit-remaining-tokens": "199000",
      "x-ratelimit-reset-requests": "8.64s",
      "x-ratelimit-reset-tokens": "6m0s",
    },
    NOW_MS,
  );
  assert.deepEqual(openai, {
    $typeName: "signalbox.policy.v1.RateLimitState",
    remainingRequests: 9999,
    remainingTokens: 199_000,
    resetRequestsMs: 8640,
    resetTokensMs: 360_000,
    limitRequests: 10_000,
    limitTokens: 200_000,
  });
  const xai = rateLimitOf({ "x-ratelimit-remaining-tokens": "0", "x-ratelimit-limit-tokens": "5" }, NOW_MS);
  assert.deepEqual([xai?.remainingTokens, xai?.limitTokens, xai?.remainingRequests, xai?.resetTokensMs], [0, 5, -1, -1]);
  const mistral = rateLimitOf({ "x-ratelimit-remaining-req-minute": "3", "x-ratelimit-limit-req-minute": "60" }, NOW_MS);
  assert.deepEqual([mistral?.remainingRequests, mistral?.limitRequests, mistral?.limitTokens], [3, 60, -1]);
  const anthropic = rateLimitOf(
    { "anthropic-ratelimit-requests-remaining": "49", "anthropic-ratelimit-requests-reset": "2026-11-20T10:00:12Z" },
    NOW_MS,
  );
  assert.deepEqual([anthropic?.remainingRequests, anthropic?.resetRequestsMs, anthropic?.resetTokensMs], [49, 12_000, -1]);
  assert.equal(rateLimitOf({ "server-timing": "x" }, NOW_MS), undefined);
});
