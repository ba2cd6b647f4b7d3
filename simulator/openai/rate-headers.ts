import type { MinuteBucket, ProviderLimits } from "../engine/buckets.ts";

/** OpenAI's rate limit headers, flat: limits, what remains, and Go durations until they are full again. */
export function openaiRateHeaders(limits: ProviderLimits, nowMs: number): string[] {
  return [...bucketHeaders("requests", limits.requests, nowMs), ...bucketHeaders("tokens", limits.tokens, nowMs)];
}

function bucketHeaders(name: string, bucket: MinuteBucket, nowMs: number): string[] {
  return [
    `x-ratelimit-limit-${name}`,
    String(bucket.limit),
    `x-ratelimit-remaining-${name}`,
    String(bucket.remaining(nowMs)),
    `x-ratelimit-reset-${name}`,
    goDuration(bucket.resetMs(nowMs)),
  ];
}

/** A duration as Go prints it: `12ms`, `1.5s`, `6m0s`. */
export function goDuration(ms: number): string {
  if (ms < 1000) return ms === 0 ? "0s" : `${Math.ceil(ms)}ms`;
  if (ms < 60_000) return `${Number((ms / 1000).toFixed(3))}s`;
  return `${Math.floor(ms / 60_000)}m${Math.ceil((ms % 60_000) / 1000)}s`;
}
