import assert from "node:assert/strict";
import { test } from "node:test";
import type { Usage } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { SeededRandom } from "#libs/clock/fake.ts";
import { normalizeUsage, openaiUsage } from "./usage.ts";

/** The classes that are not zero. */
function classes(raw: object): Partial<Usage> {
  const usage = normalizeUsage(raw, undefined);
  assert.ok(usage);
  return Object.fromEntries(
    Object.entries(usage).filter(([name, value]) => name !== "$typeName" && value !== 0 && value !== "" && value !== false),
  );
}

test("each provider's usage becomes disjoint classes", () => {
  const cases: readonly [string, object, Partial<Usage>][] = [
    [
      "OpenAI",
      {
        prompt_tokens: 100,
        completion_tokens: 50,
        total_tokens: 150,
        prompt_tokens_details: { cached_tokens: 60, cache_write_tokens: 10, audio_tokens: 5 },
        completion_tokens_details: { reasoning_tokens: 20, audio_tokens: 8, rejected_prediction_tokens: 4 },
      },
      {
        inputTokens: 25,
        cacheReadTokens: 60,
        cacheWriteTokens: 10,
        audioInputTokens: 5,
        outputTokens: 42,
        reasoningTokens: 20,
        audioOutputTokens: 8,
      },
    ],
    [
      "DeepSeek",
      { prompt_tokens: 339, completion_tokens: 83, prompt_cache_hit_tokens: 320, prompt_cache_miss_tokens: 19 },
      { inputTokens: 19, cacheReadTokens: 320, outputTokens: 83 },
    ],
    [
      "Together, Moonshot",
      { prompt_tokens: 20, completion_tokens: 3, cached_tokens: 8 },
      { inputTokens: 12, cacheReadTokens: 8, outputTokens: 3 },
    ],
    [
      "xAI: completion without reasoning",
      {
        prompt_tokens: 12,
        completion_tokens: 1,
        total_tokens: 303,
        prompt_tokens_details: { text_tokens: 12, cached_tokens: 11 },
        completion_tokens_details: { reasoning_tokens: 290 },
      },
      { inputTokens: 1, cacheReadTokens: 11, outputTokens: 291, reasoningTokens: 290 },
    ],
    [
      "xAI on Azure: cached beyond the prompt",
      { prompt_tokens: 7, completion_tokens: 2, prompt_tokens_details: { cached_tokens: 161 } },
      { cacheReadTokens: 7, outputTokens: 2, anomaly: true },
    ],
    [
      "Responses words",
      { input_tokens: 4, output_tokens: 2, input_tokens_details: { cached_tokens: 1 } },
      { inputTokens: 3, cacheReadTokens: 1, outputTokens: 2 },
    ],
    [
      "cached images",
      { prompt_tokens: 1000, completion_tokens: 1, prompt_tokens_details: { cached_tokens: 900, image_tokens: 800 } },
      { cacheReadTokens: 900, imageInputTokens: 100, outputTokens: 1 },
    ],
    ["nonsense", { prompt_tokens: -5, completion_tokens: 1e30 }, { outputTokens: 0xffff_ffff, anomaly: true }],
  ];
  for (const [name, raw, expected] of cases) assert.deepEqual(classes(raw), expected, name);
});

test("what states no tokens is no usage", () => {
  for (const raw of [null, undefined, {}, [], 5, { prompt_tokens: "5" }, { total_tokens: 9 }])
    assert.equal(normalizeUsage(raw, ""), undefined);
});

test("the tier is kept unless it is the default one", () => {
  assert.equal(normalizeUsage({ prompt_tokens: 1 }, "flex")?.serviceTier, "flex");
  assert.equal(normalizeUsage({ prompt_tokens: 1 }, "default")?.serviceTier, "");
});

test("whatever a provider states, the sums hold", () => {
  const random = new SeededRandom(11);
  const count = (): unknown => [0, 1, 7, 1000, -3, 1.5, Number.NaN, undefined, null, "9"][random.int(10)];
  for (let round = 0; round < 20_000; round++) {
    const raw = {
      prompt_tokens: random.int(50),
      completion_tokens: count(),
      total_tokens: count(),
      cached_tokens: count(),
      prompt_tokens_details: { cached_tokens: count(), cache_write_tokens: count(), audio_tokens: count(), image_tokens: count() },
      completion_tokens_details: { reasoning_tokens: count(), audio_tokens: count() },
    };
    const usage = normalizeUsage(raw, undefined)!;
    const sum = usage.inputTokens + usage.cacheReadTokens + usage.cacheWriteTokens + usage.audioInputTokens + usage.imageInputTokens;
    assert.equal(sum, raw.prompt_tokens, JSON.stringify(raw));
    assert.ok(usage.reasoningTokens <= usage.outputTokens);
    for (const value of Object.values(usage)) if (typeof value === "number") assert.ok(Number.isInteger(value) && value >= 0);
    const shown = openaiUsage(usage);
    assert.equal(shown["total_tokens"], (shown["prompt_tokens"] as number) + (shown["completion_tokens"] as number));
  }
});
