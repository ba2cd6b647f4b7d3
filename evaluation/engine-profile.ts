/**
 * How fast a simulated engine is. One iteration of continuous batching takes
 * `baseMs + prefillMs * prefillTokens + decodeMs * decodingSequences + kvMs * kvTokens`.
 */
export interface EngineProfile {
  readonly name: string;
  readonly baseMs: number;
  /** ms per prompt token computed in the iteration. */
  readonly prefillMs: number;
  /** ms per sequence that decodes. */
  readonly decodeMs: number;
  /** ms per token resident in the KV cache of the sequences that decode. */
  readonly kvMs: number;
  /** Tokens the KV cache holds. */
  readonly kvCapacity: number;
  /** Sequences running at once. */
  readonly maxSequences: number;
  /** Tokens computed per iteration at most (chunked prefill). */
  readonly maxBatchTokens: number;
}

const COMMON = { maxSequences: 256, maxBatchTokens: 8_192 } as const;

/** An 8B-class model on three GPUs: the profiles of the evaluation plan (design: routing, section 2.2). Simulated, not hardware claims. */
export const PROFILES = {
  h100: { name: "H100", baseMs: 7, prefillMs: 0.033, decodeMs: 0.05, kvMs: 4.5e-5, kvCapacity: 430_000, ...COMMON },
  a100: { name: "A100", baseMs: 10, prefillMs: 0.065, decodeMs: 0.07, kvMs: 6.5e-5, kvCapacity: 430_000, ...COMMON },
  l40s: { name: "L40S", baseMs: 20, prefillMs: 0.11, decodeMs: 0.1, kvMs: 1.5e-4, kvCapacity: 180_000, ...COMMON },
} as const satisfies Record<string, EngineProfile>;
