import type { Usage } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { usageOf } from "../codec.ts";
import { isObject, objectOf, type JsonObject } from "./api.ts";

/** Counts beyond this are nonsense; they are cut to what fits the wire's uint32. */
const TOKENS_MAX = 0xffff_ffff;

/** Providers' tiers in OpenAI's words; others pass as they are named. */
const TIERS: Readonly<Record<string, string>> = { standard: "default" };

/**
 * What the API says of tokens, event by event. Later statements supersede earlier ones field by field, because
 * `message_delta` is cumulative; a zero after a number says nothing (some gateways send zeros first, or last).
 */
export class UsageMeter {
  #isStated = false;
  #input = 0;
  #cacheRead = 0;
  #cacheWrite = 0;
  #cacheWrite1h = 0;
  #output = 0;
  #reasoning = 0;
  #webSearches = 0;
  #tier = "";
  #isFast = false;
  /** Tokens of compactions, which the totals leave out and the bill does not. */
  #compactionInput = 0;
  #compactionOutput = 0;
  #isAnomalous = false;

  /** Takes a `usage` object; anything else is ignored. */
  take(usage: unknown): void {
    if (!isObject(usage)) return;
    this.#isStated = true;
    this.#input = this.#count(usage["input_tokens"], this.#input);
    this.#cacheRead = this.#count(usage["cache_read_input_tokens"], this.#cacheRead);
    this.#cacheWrite = this.#count(usage["cache_creation_input_tokens"], this.#cacheWrite);
    this.#cacheWrite1h = this.#count(objectOf(usage["cache_creation"])["ephemeral_1h_input_tokens"], this.#cacheWrite1h);
    this.#output = this.#count(usage["output_tokens"], this.#output);
    this.#reasoning = this.#count(objectOf(usage["output_tokens_details"])["thinking_tokens"], this.#reasoning);
    this.#webSearches = this.#count(objectOf(usage["server_tool_use"])["web_search_requests"], this.#webSearches);
    if (typeof usage["service_tier"] === "string") this.#tier = usage["service_tier"];
    if (typeof usage["speed"] === "string") this.#isFast = usage["speed"] === "fast";
    if (Array.isArray(usage["iterations"])) this.#takeIterations(usage["iterations"]);
  }

  /** In disjoint classes, or undefined when nothing was stated. */
  usage(): Usage | undefined {
    if (!this.#isStated) return undefined;
    const cacheWrite1h = Math.min(this.#cacheWrite1h, this.#cacheWrite);
    const output = this.#output + this.#compactionOutput;
    return usageOf({
      inputTokens: this.#input + this.#compactionInput,
      cacheReadTokens: this.#cacheRead,
      cacheWriteTokens: this.#cacheWrite - cacheWrite1h,
      cacheWrite1hTokens: cacheWrite1h,
      outputTokens: output,
      reasoningTokens: Math.min(this.#reasoning, output),
      webSearches: this.#webSearches,
      serviceTier: this.#isFast ? "priority" : (TIERS[this.#tier] ?? this.#tier),
      anomaly: this.#isAnomalous || this.#reasoning > output || this.#cacheWrite1h > this.#cacheWrite,
    });
  }

  #takeIterations(iterations: readonly unknown[]): void {
    this.#compactionInput = 0;
    this.#compactionOutput = 0;
    for (const item of iterations) {
      const iteration = objectOf(item);
      if (iteration["type"] === "compaction") {
        this.#compactionInput += this.#count(iteration["input_tokens"], 0);
        this.#compactionOutput += this.#count(iteration["output_tokens"], 0);
      } else if (iteration["type"] === "advisor_message") {
        // Another model's tokens at another model's price: no class of ours holds them.
        this.#isAnomalous = true;
      }
    }
  }

  #count(value: unknown, before: number): number {
    if (value === undefined || value === null || value === 0) return before;
    if (typeof value === "number" && Number.isInteger(value) && value > 0 && value <= TOKENS_MAX) return value;
    this.#isAnomalous = true;
    return before;
  }
}

/** The usage in OpenAI's chat words: the prompt includes what was read from and written to a cache. */
export function openaiUsage(usage: Usage): JsonObject {
  const cacheWrite = usage.cacheWriteTokens + usage.cacheWrite1hTokens;
  const prompt = usage.inputTokens + usage.cacheReadTokens + cacheWrite;
  return {
    prompt_tokens: prompt,
    completion_tokens: usage.outputTokens,
    total_tokens: prompt + usage.outputTokens,
    prompt_tokens_details: { cached_tokens: usage.cacheReadTokens, cache_write_tokens: cacheWrite, audio_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: usage.reasoningTokens, audio_tokens: 0 },
  };
}
