import type { ProviderName } from "#libs/config/model.ts";

/** Where a provider that otherwise speaks OpenAI's dialect differs in what it accepts. */
export interface Quirks {
  /** Member that carries the output limit: `both` = accepts either, and gets `max_completion_tokens` where we add one. */
  readonly outputLimit: "max_tokens" | "max_completion_tokens" | "both";
  /** Whether `stream_options.include_usage` is understood; those without it state usage anyway. */
  readonly streamOptions: boolean;
  /** Members it refuses or ignores: hints that are dropped with a warning. */
  readonly drops: ReadonlySet<string>;
  /** Members it knows by another name. */
  readonly renames: ReadonlyMap<string, string>;
  /** Highest temperature it accepts. */
  readonly temperatureMax: number;
  /** Header of the credential. */
  readonly credential: "bearer" | "api-key";
  /** How an answer is continued from a given beginning (`AttemptOpen.resume_prefix`); undefined = only as a last assistant message. */
  readonly prefill: "continue_final_message" | "prefix" | undefined;
  /** Which scheduling `priority` in the body the engine serves first, if it takes one. */
  readonly enginePriority: "none" | "lower_first" | "higher_first";
}

const PLAIN: Quirks = {
  outputLimit: "both",
  streamOptions: true,
  drops: new Set(),
  renames: new Map(),
  temperatureMax: 2,
  credential: "bearer",
  prefill: undefined,
  enginePriority: "none",
};

/** Members only OpenAI itself knows and strict validators refuse. */
const OPENAI_ONLY = [
  "store",
  "user",
  "safety_identifier",
  "prompt_cache_key",
  "prompt_cache_options",
  "prompt_cache_retention",
  "verbosity",
  "moderation",
  "logit_bias",
] as const;

const VLLM: Quirks = { ...PLAIN, outputLimit: "both", prefill: "continue_final_message", enginePriority: "lower_first" };

/** Wire notes 2.10, and each provider's reference where the table is silent. */
const QUIRKS: Readonly<Partial<Record<ProviderName, Quirks>>> = {
  openai: { ...PLAIN, outputLimit: "max_completion_tokens" },
  azure: { ...PLAIN, credential: "api-key" },
  vllm: VLLM,
  // SGLang serves higher values first, unless it was started with --schedule-low-priority-values-first.
  sglang: { ...VLLM, enginePriority: "higher_first" },
  llamacpp: { ...PLAIN, outputLimit: "max_tokens" },
  tgi: { ...PLAIN, outputLimit: "max_tokens", drops: new Set(["logit_bias"]), prefill: "continue_final_message" },
  ollama: { ...PLAIN, outputLimit: "max_tokens", drops: new Set(["logit_bias", "user"]) },
  groq: { ...PLAIN, drops: new Set(["logit_bias", "store", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"]) },
  mistral: {
    ...PLAIN,
    outputLimit: "max_tokens",
    streamOptions: false,
    drops: new Set(OPENAI_ONLY),
    renames: new Map([["seed", "random_seed"]]),
    temperatureMax: 1.5,
    prefill: "prefix",
  },
  deepseek: { ...PLAIN, outputLimit: "max_tokens", drops: new Set(["logit_bias", "user"]) },
  xai: { ...PLAIN, drops: new Set(["logit_bias"]) },
  together: { ...PLAIN, outputLimit: "max_tokens" },
};

/** What to mind with `provider`. */
export function quirksOf(provider: ProviderName): Quirks {
  return QUIRKS[provider] ?? PLAIN;
}

/**
 * OpenAI's first reasoning models answer 400 to sampling parameters, even at some default values. Later ones (gpt-5.1 and up) take
 * them when they do not reason, so only these are listed.
 */
const REASONING_ONLY = /^(o\d|gpt-5(-(mini|nano|pro|codex))?(-\d{4}-\d\d-\d\d)?$)/;

/** Sampling hints such a model refuses. */
const SAMPLING: ReadonlySet<string> = new Set(["temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias"]);

/** Sampling hints the backend's model refuses whatever their value. */
export function refusedSampling(provider: ProviderName, model: string): ReadonlySet<string> {
  return (provider === "openai" || provider === "azure") && REASONING_ONLY.test(model) ? SAMPLING : NOTHING;
}

const NOTHING: ReadonlySet<string> = new Set();
