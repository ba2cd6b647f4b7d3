import type { CapabilityName } from "#libs/config/model.ts";

/** Whose wire format a simulated backend speaks. */
export type SimDialect = "openai" | "anthropic" | "vllm" | "sglang" | "llamacpp" | "ollama" | "tgi";

/**
 * How fast a backend is.
 * `engine`: a GPU server that slows down as it fills; one iteration takes `base + prefill * promptTokens + decode * sequences + kv * kvTokens` ms.
 * `cloud`: log-normal times that do not depend on our load.
 * `fast`: no waiting at all and whole answers in one write, for load tests.
 */
export type SpeedProfile =
  | {
      readonly kind: "engine";
      /** Fixed ms before the first token: HTTP, templating, tokenising. */
      readonly overheadMs: number;
      readonly baseMs: number;
      readonly prefillMsPerToken: number;
      readonly decodeMsPerSequence: number;
      readonly kvMsPerToken: number;
      /** Sequences decoded at once; more wait in the queue (`max_num_seqs`). */
      readonly maxSequences: number;
      /** Tokens the KV cache holds; a request waits until it fits. */
      readonly kvCapacityTokens: number;
      /** Spread of the log-normal noise on every time; 0 = none. */
      readonly sigma: number;
    }
  | {
      readonly kind: "cloud";
      /** Median ms to the first token. */
      readonly ttftMs: number;
      readonly ttftSigma: number;
      /** Median ms between tokens. */
      readonly itlMs: number;
      readonly itlSigma: number;
      /** Prompt processing on top of the median, ms per uncached token. */
      readonly prefillMsPerToken?: number;
    }
  | { readonly kind: "fast" };

/** One simulated backend. */
export interface SimBackendProfile {
  readonly name: string;
  readonly dialect: SimDialect;
  /** Model name it serves; anything else answers the provider's 404. */
  readonly model: string;
  /** Further names it serves, e.g. an embedding model's. */
  readonly aliases?: readonly string[];
  /** Port on 127.0.0.1; 0 or absent = any free one. */
  readonly port?: number;
  /** Key it insists on; absent = any key or none. */
  readonly key?: string;
  /** Context window, tokens. */
  readonly contextTokens: number;
  /** Most output tokens of one answer. */
  readonly maxOutputTokens: number;
  readonly capabilities: readonly CapabilityName[];
  readonly speed: SpeedProfile;
  /** Answer length: median and log-normal spread, tokens. Default 24, 0.5. */
  readonly answer?: { readonly medianTokens: number; readonly sigma: number };
  /** Provider limits per minute and at once; absent = none. */
  readonly limits?: { readonly rpm?: number; readonly tpm?: number; readonly concurrent?: number };
  /** OpenAI reasoning models refuse `max_tokens`, `temperature` and friends; true = do as they do. */
  readonly refusesSampling?: boolean;
  /** Newest Claude models refuse an assistant message at the end; true = do as they do. */
  readonly refusesPrefill?: boolean;
  /** Random padding on OpenAI stream deltas unless the request switches it off. Default true. */
  readonly obfuscation?: boolean;
  /** Price as the configuration writes it; the simulator only hands it on. */
  readonly price?: Readonly<Record<string, string | Readonly<Record<string, string>>>>;
  readonly labels?: Readonly<Record<string, string>>;
}
