import type { Random } from "#libs/clock/index.ts";

/** What a caller really used, in classes that do not overlap: what a dialect's object is made from. */
export interface TrueUsage {
  readonly input: number;
  readonly cacheRead: number;
  readonly cacheWrite: number;
  readonly cacheWrite1h: number;
  readonly audioInput: number;
  readonly imageInput: number;
  /** Text that was shown, without reasoning. */
  readonly output: number;
  readonly reasoning: number;
  readonly audioOutput: number;
  readonly searches: number;
}

/** A provider's way to write a usage. */
export interface Dialect {
  readonly name: string;
  /** Classes it can state; the others are 0. */
  readonly classes: readonly (keyof TrueUsage)[];
  readonly write: (used: TrueUsage, random: Random) => Record<string, unknown>;
  /** The catalogue's provider and API, where it reads this dialect. */
  readonly catalogue?: { readonly provider: string; readonly flavor: string };
  /** Our word for the provider. */
  readonly provider: string;
}

const promptOf = (used: TrueUsage): number =>
  used.input + used.cacheRead + used.cacheWrite + used.cacheWrite1h + used.audioInput + used.imageInput;
const completionOf = (used: TrueUsage): number => used.output + used.reasoning + used.audioOutput;

/** Zeros may be stated or left out. */
function stated(random: Random, fields: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value > 0 || random.next() < 0.5));
}

function openaiChat(used: TrueUsage, random: Random): Record<string, unknown> {
  return {
    prompt_tokens: promptOf(used),
    completion_tokens: completionOf(used),
    total_tokens: promptOf(used) + completionOf(used),
    prompt_tokens_details: stated(random, {
      cached_tokens: used.cacheRead,
      cache_write_tokens: used.cacheWrite,
      audio_tokens: used.audioInput,
      image_tokens: used.imageInput,
    }),
    completion_tokens_details: stated(random, {
      reasoning_tokens: used.reasoning,
      audio_tokens: used.audioOutput,
      // Inside completion_tokens, and billed.
      rejected_prediction_tokens: Math.min(used.output, 3),
    }),
  };
}

/** vLLM, SGLang, llama.cpp, Ollama, TGI: the plain three, details only when there are some. */
function engine(used: TrueUsage, random: Random): Record<string, unknown> {
  const usage = { prompt_tokens: promptOf(used), completion_tokens: completionOf(used), total_tokens: promptOf(used) + completionOf(used) };
  return used.cacheRead > 0 || random.next() < 0.3
    ? { ...usage, prompt_tokens_details: { cached_tokens: used.cacheRead } }
    : { ...usage, prompt_tokens_details: null };
}

const PLAIN = ["input", "cacheRead", "output", "reasoning"] as const;

/** Every dialect of OpenAI's shape. */
export const OPENAI_DIALECTS: readonly Dialect[] = [
  {
    name: "openai chat",
    provider: "openai",
    classes: ["input", "cacheRead", "cacheWrite", "audioInput", "output", "reasoning", "audioOutput"],
    write: openaiChat,
    catalogue: { provider: "openai", flavor: "chat" },
  },
  {
    name: "openai responses",
    provider: "openai",
    classes: ["input", "cacheRead", "cacheWrite", "output", "reasoning"],
    write: (used, random) => ({
      input_tokens: promptOf(used),
      input_tokens_details: stated(random, { cached_tokens: used.cacheRead, cache_write_tokens: used.cacheWrite }),
      output_tokens: completionOf(used),
      output_tokens_details: { reasoning_tokens: used.reasoning },
      total_tokens: promptOf(used) + completionOf(used),
    }),
    catalogue: { provider: "openai", flavor: "responses" },
  },
  {
    name: "openai embeddings",
    provider: "openai",
    classes: ["input"],
    write: (used) => ({ prompt_tokens: promptOf(used), total_tokens: promptOf(used) }),
    catalogue: { provider: "openai", flavor: "embeddings" },
  },
  {
    name: "azure",
    provider: "azure",
    classes: ["input", "cacheRead", "audioInput", "output", "reasoning", "audioOutput"],
    write: openaiChat,
    catalogue: { provider: "azure", flavor: "chat" },
  },
  {
    name: "deepseek",
    provider: "deepseek",
    classes: PLAIN,
    write: (used, random) => ({
      prompt_tokens: promptOf(used),
      completion_tokens: completionOf(used),
      total_tokens: promptOf(used) + completionOf(used),
      ...(random.next() < 0.5 ? { prompt_tokens_details: { cached_tokens: used.cacheRead } } : {}),
      prompt_cache_hit_tokens: used.cacheRead,
      prompt_cache_miss_tokens: promptOf(used) - used.cacheRead,
      completion_tokens_details: { reasoning_tokens: used.reasoning },
    }),
    catalogue: { provider: "deepseek", flavor: "chat" },
  },
  {
    name: "groq",
    provider: "groq",
    classes: PLAIN,
    write: (used, random) => ({ ...openaiChat(used, random), queue_time: 0.03, prompt_time: 0.01, completion_time: 0.4, total_time: 0.41 }),
    catalogue: { provider: "groq", flavor: "default" },
  },
  {
    name: "mistral",
    provider: "mistral",
    classes: PLAIN,
    write: (used, random) => ({ ...openaiChat(used, random), prompt_audio_seconds: null, num_cached_tokens: used.cacheRead }),
    catalogue: { provider: "mistral", flavor: "default" },
  },
  {
    name: "xai",
    provider: "xai",
    classes: [...PLAIN, "searches"],
    write: (used, random) => ({
      prompt_tokens: promptOf(used),
      // Reasoning is not in it; the total says so.
      completion_tokens: used.output,
      total_tokens: promptOf(used) + used.output + used.reasoning,
      prompt_tokens_details: stated(random, { text_tokens: promptOf(used), cached_tokens: used.cacheRead }),
      completion_tokens_details: { reasoning_tokens: used.reasoning, audio_tokens: 0 },
      num_sources_used: used.searches,
    }),
    catalogue: { provider: "x-ai", flavor: "chat" },
  },
  {
    name: "openrouter",
    provider: "openrouter",
    classes: ["input", "cacheRead", "cacheWrite", "audioInput", "output", "reasoning", "searches"],
    write: (used, random) => ({
      ...openaiChat(used, random),
      cost: 0.0123,
      cost_details: { upstream_inference_cost: null },
      is_byok: false,
      ...(used.searches > 0 ? { server_tool_use: { web_search_requests: used.searches } } : {}),
    }),
    catalogue: { provider: "openrouter", flavor: "chat" },
  },
  {
    name: "together, moonshot: flat cached_tokens",
    provider: "together",
    classes: PLAIN,
    write: (used) => ({
      prompt_tokens: promptOf(used),
      completion_tokens: completionOf(used),
      total_tokens: promptOf(used) + completionOf(used),
      cached_tokens: used.cacheRead,
      reasoning_tokens: used.reasoning,
    }),
  },
  {
    name: "fireworks",
    provider: "fireworks",
    classes: PLAIN,
    write: openaiChat,
    catalogue: { provider: "fireworks", flavor: "chat" },
  },
  {
    name: "gemini's OpenAI surface",
    provider: "gemini",
    classes: PLAIN,
    write: openaiChat,
    catalogue: { provider: "google", flavor: "chat" },
  },
  {
    name: "perplexity",
    provider: "perplexity",
    classes: ["input", "output", "searches"],
    write: (used) => ({ ...engine(used, NEVER), num_search_queries: used.searches, search_context_size: "low" }),
  },
  { name: "vllm, sglang, llama.cpp, ollama", provider: "vllm", classes: ["input", "cacheRead", "output"], write: engine },
];

const NEVER: Pick<Random, "next"> & Random = { next: () => 1, int: () => 0, bytes: (target) => target };

/** Anthropic's messages: the input is stated without the cache. */
export const ANTHROPIC: Dialect = {
  name: "anthropic",
  provider: "anthropic",
  classes: ["input", "cacheRead", "cacheWrite", "cacheWrite1h", "output", "reasoning", "searches"],
  write: (used, random) => ({
    input_tokens: used.input,
    cache_creation_input_tokens: used.cacheWrite + used.cacheWrite1h,
    cache_read_input_tokens: used.cacheRead,
    ...(used.cacheWrite1h > 0 || random.next() < 0.5
      ? { cache_creation: { ephemeral_5m_input_tokens: used.cacheWrite, ephemeral_1h_input_tokens: used.cacheWrite1h } }
      : {}),
    output_tokens: used.output + used.reasoning,
    ...(used.reasoning > 0 ? { output_tokens_details: { thinking_tokens: used.reasoning } } : {}),
    ...(used.searches > 0 ? { server_tool_use: { web_search_requests: used.searches, web_fetch_requests: 1 } } : {}),
    service_tier: "standard",
  }),
  catalogue: { provider: "anthropic", flavor: "default" },
};

/** A random usage of a dialect's classes: zeros, everyday sizes and absurd ones. */
export function randomUsage(dialect: Dialect, random: Random, absurd: boolean): TrueUsage {
  const size = (): number => {
    const kind = random.next();
    if (kind < 0.25) return 0;
    if (kind < 0.9 || !absurd) return random.int(kind < 0.6 ? 2_000 : 150_000);
    return random.int(300_000_000);
  };
  const used = {
    input: 0,
    cacheRead: 0,
    cacheWrite: 0,
    cacheWrite1h: 0,
    audioInput: 0,
    imageInput: 0,
    output: 0,
    reasoning: 0,
    audioOutput: 0,
    searches: 0,
  };
  for (const name of dialect.classes) used[name] = name === "searches" ? (random.next() < 0.7 ? 0 : random.int(20)) : size();
  return used;
}
