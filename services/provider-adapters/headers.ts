import type { RateLimitState } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { headerOf, type UpstreamHeaders } from "./codec.ts";

/** No provider's wait is believed beyond a day: a typing mistake of theirs must not retire a backend for a month. */
const RETRY_AFTER_MAX_MS = 86_400_000;

/** Not stated, as RateLimitState writes it. */
const UNSTATED = -1;

/** How long to wait by the headers, ms; 0 = not stated. Understands retry-after-ms, and retry-after in seconds or as an HTTP date. */
export function retryAfterMs(headers: UpstreamHeaders, nowMs: number): number {
  const exact = Number.parseFloat(headerOf(headers, "retry-after-ms"));
  if (exact >= 0) return clampWait(exact);
  const value = headerOf(headers, "retry-after").trim();
  if (value === "") return 0;
  if (/^\d+(\.\d+)?$/.test(value)) return clampWait(Number(value) * 1000);
  const atMs = Date.parse(value);
  return Number.isNaN(atMs) ? 0 : clampWait(atMs - nowMs);
}

/** How long to wait by google.rpc.RetryInfo among an error's details (`retryDelay: "34.4s"`), ms; 0 = not stated. */
export function retryInfoMs(details: unknown): number {
  if (!Array.isArray(details)) return 0;
  for (const detail of details as readonly unknown[]) {
    const delay = typeof detail === "object" && detail !== null ? (detail as { retryDelay?: unknown }).retryDelay : undefined;
    if (typeof delay === "string") return clampWait(Math.max(0, durationMs(delay)));
  }
  return 0;
}

function clampWait(ms: number): number {
  return Number.isFinite(ms) ? Math.min(RETRY_AFTER_MAX_MS, Math.max(0, Math.ceil(ms))) : 0;
}

const UNIT_MS: Readonly<Record<string, number>> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** A Go duration ("6m0s", "12ms") or a bare number of seconds in ms; -1 when it is neither. */
export function durationMs(text: string): number {
  if (text === "") return UNSTATED;
  const bare = Number(text);
  if (Number.isFinite(bare)) return bare >= 0 ? bare * 1000 : UNSTATED;
  let total = 0;
  let end = 0;
  for (const part of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)) {
    if (part.index !== end) return UNSTATED;
    end = part.index + part[0].length;
    total += Number(part[1]) * UNIT_MS[part[2]!]!;
  }
  return end === text.length ? total : UNSTATED;
}

/**
 * Rate-limit state in any of the header dialects: OpenAI's (Go durations; Azure: whole seconds; xAI: no reset), Mistral's
 * per-minute names, Anthropic's (RFC 3339). Undefined when the answer states none.
 */
export function rateLimitOf(headers: UpstreamHeaders, nowMs: number): RateLimitState | undefined {
  if (states(headers, "x-ratelimit-remaining-requests") || states(headers, "x-ratelimit-remaining-tokens")) return openaiState(headers);
  if (states(headers, "anthropic-ratelimit-requests-remaining") || states(headers, "anthropic-ratelimit-tokens-remaining")) {
    return anthropicState(headers, nowMs);
  }
  if (states(headers, "x-ratelimit-remaining-req-minute") || states(headers, "x-ratelimit-remaining-tokens-minute")) {
    return mistralState(headers);
  }
  return undefined;
}

function states(headers: UpstreamHeaders, name: string): boolean {
  return headers[name] !== undefined;
}

function numberOf(headers: UpstreamHeaders, name: string): number {
  const text = headerOf(headers, name);
  const value = text === "" ? Number.NaN : Number(text);
  return Number.isFinite(value) && value >= 0 ? value : UNSTATED;
}

function openaiState(headers: UpstreamHeaders): RateLimitState {
  return {
    $typeName: "signalbox.policy.v1.RateLimitState",
    remainingRequests: numberOf(headers, "x-ratelimit-remaining-requests"),
    remainingTokens: numberOf(headers, "x-ratelimit-remaining-tokens"),
    resetRequestsMs: durationMs(headerOf(headers, "x-ratelimit-reset-requests")),
    resetTokensMs: durationMs(headerOf(headers, "x-ratelimit-reset-tokens")),
    limitRequests: numberOf(headers, "x-ratelimit-limit-requests"),
    limitTokens: numberOf(headers, "x-ratelimit-limit-tokens"),
  };
}

function mistralState(headers: UpstreamHeaders): RateLimitState {
  return {
    $typeName: "signalbox.policy.v1.RateLimitState",
    remainingRequests: numberOf(headers, "x-ratelimit-remaining-req-minute"),
    remainingTokens: numberOf(headers, "x-ratelimit-remaining-tokens-minute"),
    resetRequestsMs: UNSTATED,
    resetTokensMs: UNSTATED,
    limitRequests: numberOf(headers, "x-ratelimit-limit-req-minute"),
    limitTokens: numberOf(headers, "x-ratelimit-limit-tokens-minute"),
  };
}

function anthropicState(headers: UpstreamHeaders, nowMs: number): RateLimitState {
  const resetMs = (name: string): number => {
    const atMs = Date.parse(headerOf(headers, name));
    return Number.isNaN(atMs) ? UNSTATED : Math.max(0, atMs - nowMs);
  };
  return {
    $typeName: "signalbox.policy.v1.RateLimitState",
    remainingRequests: numberOf(headers, "anthropic-ratelimit-requests-remaining"),
    remainingTokens: numberOf(headers, "anthropic-ratelimit-tokens-remaining"),
    resetRequestsMs: resetMs("anthropic-ratelimit-requests-reset"),
    resetTokensMs: resetMs("anthropic-ratelimit-tokens-reset"),
    limitRequests: numberOf(headers, "anthropic-ratelimit-requests-limit"),
    limitTokens: numberOf(headers, "anthropic-ratelimit-tokens-limit"),
  };
}
