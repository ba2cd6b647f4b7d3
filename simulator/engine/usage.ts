import type { CacheUse } from "./prefix-cache.ts";

/** What a call consumed, in tokens. */
export interface UsageCounts {
  /** Whole prompt, cache included. */
  readonly prompt: number;
  readonly cache: CacheUse;
  /** All output, reasoning included. */
  readonly output: number;
  readonly reasoning: number;
}
