import type { Usage } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { usageOf } from "../codec.ts";

/** A JSON object nobody vouches for. */
export type Loose = Readonly<Record<string, unknown>>;

/** Whether `value` is a JSON object. */
export function isObject(value: unknown): value is Loose {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** uint32 on the wire; no model reads or writes that much. */
const TOKENS_MAX = 0xffff_ffff;

/** Reads counts and remembers whether one was nonsense. */
class Counts {
  anomaly = false;

  /** The first of `values` that is a number; 0 where none is. Negative, broken or absurd ones count as anomalies. */
  first(...values: readonly unknown[]): number {
    for (const value of values) {
      if (typeof value !== "number") continue;
      if (Number.isInteger(value) && value >= 0 && value <= TOKENS_MAX) return value;
      this.anomaly = true;
      return Number.isFinite(value) && value > 0 ? Math.min(TOKENS_MAX, Math.floor(value)) : 0;
    }
    return 0;
  }

  /** `value`, at most `most`; more is an anomaly. */
  atMost(value: number, most: number): number {
    if (value <= most) return value;
    this.anomaly = true;
    return most;
  }
}

/**
 * A provider's `usage` as disjoint classes (wire notes 2.2, 2.10), or undefined when it states no tokens. Known dialects: OpenAI,
 * DeepSeek (`prompt_cache_hit_tokens`), flat `cached_tokens` (Together, Moonshot), xAI (completion without reasoning, shown by its total),
 * OpenRouter; searches as Anthropic's and OpenRouter's `server_tool_use`, xAI's `num_sources_used`, Perplexity's `num_search_queries`. Cached beyond the prompt, reasoning beyond the output and broken numbers are clamped and flagged.
 */
export function normalizeUsage(raw: unknown, serviceTier: unknown): Usage | undefined {
  if (!isObject(raw)) return undefined;
  const prompt = raw["prompt_tokens"] ?? raw["input_tokens"];
  const completion = raw["completion_tokens"] ?? raw["output_tokens"];
  if (typeof prompt !== "number" && typeof completion !== "number") return undefined;
  const counts = new Counts();
  const input = inputClasses(raw, counts.first(prompt), counts);
  const output = outputClasses(raw, counts.first(prompt), counts.first(completion), counts);
  const tools = isObject(raw["server_tool_use"]) ? raw["server_tool_use"] : {};
  return usageOf({
    ...input,
    ...output,
    webSearches: counts.first(tools["web_search_requests"], raw["num_sources_used"], raw["num_search_queries"]),
    serviceTier: typeof serviceTier === "string" && serviceTier !== "default" && serviceTier !== "auto" ? serviceTier : "",
    anomaly: counts.anomaly,
  });
}

function inputClasses(raw: Loose, prompt: number, counts: Counts): Partial<Usage> {
  const details = objectOf(raw["prompt_tokens_details"] ?? raw["input_tokens_details"]);
  const cached = counts.first(details["cached_tokens"], raw["prompt_cache_hit_tokens"], raw["cached_tokens"]);
  const cacheReadTokens = counts.atMost(cached, prompt);
  const cacheWriteTokens = counts.atMost(counts.first(details["cache_write_tokens"]), prompt - cacheReadTokens);
  const fresh = prompt - cacheReadTokens - cacheWriteTokens;
  // What was cached may itself be audio or image: then the classes overlap, and the cache's price applies.
  const audioInputTokens = Math.min(counts.first(details["audio_tokens"]), fresh);
  const imageInputTokens = Math.min(counts.first(details["image_tokens"]), fresh - audioInputTokens);
  const inputTokens = fresh - audioInputTokens - imageInputTokens;
  return { inputTokens, cacheReadTokens, cacheWriteTokens, audioInputTokens, imageInputTokens };
}

function outputClasses(raw: Loose, prompt: number, completion: number, counts: Counts): Partial<Usage> {
  const details = objectOf(raw["completion_tokens_details"] ?? raw["output_tokens_details"]);
  const reasoning = counts.first(details["reasoning_tokens"], raw["reasoning_tokens"]);
  const total = raw["total_tokens"];
  const apart = typeof total === "number" ? reasoning > 0 && total === prompt + completion + reasoning : reasoning > completion;
  const all = Math.min(TOKENS_MAX, apart ? completion + reasoning : completion);
  const audioOutputTokens = counts.atMost(counts.first(details["audio_tokens"]), all);
  const outputTokens = all - audioOutputTokens;
  return { outputTokens, reasoningTokens: counts.atMost(reasoning, outputTokens), audioOutputTokens };
}

function objectOf(value: unknown): Loose {
  return isObject(value) ? value : {};
}

/** A Usage in OpenAI's shape: the sums hold (total = prompt + completion, cached <= prompt, reasoning <= completion). */
export function openaiUsage(usage: Usage): Loose {
  const prompt =
    usage.inputTokens +
    usage.cacheReadTokens +
    usage.cacheWriteTokens +
    usage.cacheWrite1hTokens +
    usage.audioInputTokens +
    usage.imageInputTokens;
  const completion = usage.outputTokens + usage.audioOutputTokens;
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: {
      cached_tokens: usage.cacheReadTokens,
      cache_write_tokens: usage.cacheWriteTokens + usage.cacheWrite1hTokens,
      audio_tokens: usage.audioInputTokens,
    },
    completion_tokens_details: { reasoning_tokens: usage.reasoningTokens, audio_tokens: usage.audioOutputTokens },
  };
}
