import type { CapabilityName, ProviderName } from "./model.ts";

/** What is known of a provider before its backend says more. */
export interface ProviderFacts {
  /** The SDK's base URL; undefined: every customer has their own, so `url` is required. */
  readonly url: string | undefined;
  /** Whether requests to the default URL need a key. */
  readonly needsKey: boolean;
  /** What the API or engine does whatever model it serves: always added to the backend's `capabilities`. */
  readonly engine: readonly CapabilityName[];
  /** What a backend that lists no `capabilities` is taken to do. */
  readonly assumed: readonly CapabilityName[];
}

/** OpenAI's own surface beside chat. */
const OPENAI_ENGINE = ["streaming", "n", "logprobs", "completions", "parallel_tools"] as const;
/** Open-model hosts take one choice per request and differ on log probabilities. */
const HOST_ENGINE = ["streaming", "parallel_tools"] as const;
/** Engines that continue a last assistant message, which a resumed stream needs. */
const PREFILL_ENGINE = ["streaming", "n", "logprobs", "completions", "parallel_tools", "prefill"] as const;
/** Flagship models of the large clouds do these; a backend of a smaller model lists its own. */
const CLOUD_MODEL = ["tools", "vision", "json_schema"] as const;
const HOST_MODEL = ["tools", "json_schema"] as const;
/** Engines constrain any model's output by grammar; tools depend on the model's template, so they are listed by hand. */
const GRAMMAR_MODEL = ["json_schema"] as const;

function hosted(url: string | undefined, engine: readonly CapabilityName[], assumed: readonly CapabilityName[]): ProviderFacts {
  return { url, needsKey: true, engine, assumed };
}

function engine(url: string, does: readonly CapabilityName[]): ProviderFacts {
  return { url, needsKey: false, engine: does, assumed: GRAMMAR_MODEL };
}

/** Facts by provider. URLs are those the vendors' SDKs start from; engines listen on their documented ports. */
export const PROVIDERS: Readonly<Record<ProviderName, ProviderFacts>> = {
  vllm: engine("http://127.0.0.1:8000/v1", PREFILL_ENGINE),
  sglang: engine("http://127.0.0.1:30000/v1", PREFILL_ENGINE),
  llamacpp: engine("http://127.0.0.1:8080/v1", ["streaming", "n", "logprobs", "completions", "parallel_tools"]),
  tgi: engine("http://127.0.0.1:3000/v1", ["streaming", "logprobs", "completions", "prefill"]),
  ollama: engine("http://127.0.0.1:11434/v1", ["streaming", "completions"]),
  openai: hosted("https://api.openai.com/v1", OPENAI_ENGINE, CLOUD_MODEL),
  "openai-compatible": { url: undefined, needsKey: false, engine: HOST_ENGINE, assumed: HOST_MODEL },
  azure: hosted(undefined, ["streaming", "n", "logprobs", "parallel_tools"], CLOUD_MODEL),
  anthropic: hosted("https://api.anthropic.com", ["streaming", "parallel_tools"], CLOUD_MODEL),
  gemini: hosted("https://generativelanguage.googleapis.com", ["streaming", "n", "parallel_tools"], CLOUD_MODEL),
  bedrock: hosted(undefined, ["streaming", "parallel_tools"], HOST_MODEL),
  groq: hosted("https://api.groq.com/openai/v1", HOST_ENGINE, HOST_MODEL),
  mistral: hosted("https://api.mistral.ai/v1", HOST_ENGINE, HOST_MODEL),
  deepseek: hosted("https://api.deepseek.com/v1", ["streaming", "parallel_tools", "logprobs"], HOST_MODEL),
  xai: hosted("https://api.x.ai/v1", OPENAI_ENGINE, HOST_MODEL),
  openrouter: hosted("https://openrouter.ai/api/v1", HOST_ENGINE, HOST_MODEL),
  together: hosted("https://api.together.xyz/v1", HOST_ENGINE, HOST_MODEL),
  fireworks: hosted("https://api.fireworks.ai/inference/v1", HOST_ENGINE, HOST_MODEL),
};

/**
 * What a backend can do: what it lists (or its provider is taken to do), what that brings along, and what the engine always does. One that
 * lists `embeddings` alone serves a model that does nothing else, whatever its engine does for others.
 */
export function capabilitiesOf(provider: ProviderName, listed: readonly CapabilityName[] | undefined): ReadonlySet<CapabilityName> {
  if (listed?.length === 1 && listed[0] === "embeddings") return new Set(listed);
  const facts = PROVIDERS[provider];
  const all = new Set<CapabilityName>([...(listed ?? facts.assumed), ...facts.engine]);
  // Who can hold an answer to a schema can hold it to JSON.
  if (all.has("json_schema")) all.add("json_object");
  return all;
}
