import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { calcPrice, findProvider } from "@pydantic/genai-prices";
import { UsageSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { PriceBookSchema } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { SeededRandom } from "#libs/clock/fake.ts";
import { compilePriceBook, costOf } from "#libs/money/index.ts";
import { fromCatalog } from "./catalog.ts";

const PROVIDERS = [
  ["openai", "openai"],
  ["anthropic", "anthropic"],
  ["gemini", "google"],
  ["groq", "groq"],
  ["mistral", "mistral"],
  ["deepseek", "deepseek"],
  ["xai", "x-ai"],
] as const;

/** Units the catalogue prices that a chat usage never holds, or that split a class we bill as one. */
const OTHER_UNITS = /audio_hours|image|video|document|text_messages|audio_read/;

test("imported rows cost what the catalogue's own calculation says, to a billionth of a dollar", () => {
  const random = new SeededRandom(11);
  let compared = 0;
  for (const [ours, theirs] of PROVIDERS) {
    for (const model of findProvider({ providerId: theirs })!.models) {
      const match = fromCatalog("b", ours, "", model.id);
      if (match === undefined || match.grade !== "exact") continue;
      const index = compilePriceBook(create(PriceBookSchema, { lines: [...match.lines], schedules: [...match.schedules] }));
      for (let round = 0; round < 5; round++) {
        const at = Date.UTC(2024 + random.int(3), random.int(12), 1 + random.int(28), random.int(24), random.int(60));
        const input = random.int(400_000);
        const cacheRead = random.int(50_000);
        const cacheWrite = random.int(5_000);
        const output = random.int(9_000);
        const reasoning = random.int(output + 1);
        const usage = create(UsageSchema, {
          inputTokens: input,
          cacheReadTokens: cacheRead,
          cacheWriteTokens: cacheWrite,
          outputTokens: output,
          reasoningTokens: reasoning,
        });
        const oracle = calcPrice(
          {
            input_tokens: input + cacheRead + cacheWrite,
            cache_read_tokens: cacheRead,
            cache_write_tokens: cacheWrite,
            output_tokens: output,
            output_reasoning_tokens: reasoning,
          },
          model.id,
          { providerId: theirs, timestamp: new Date(at) },
        );
        if (oracle === null || Object.keys(oracle.model_price).some((key) => OTHER_UNITS.test(key))) continue;
        if (!("input_mtok" in oracle.model_price) || !("output_mtok" in oracle.model_price)) continue;
        const cost = costOf(index, "b", usage, at);
        const difference = Math.abs(Number(cost.nanoUsd) / 1e9 - oracle.total_price);
        assert.ok(difference <= 1e-9, `${theirs}/${model.id} at ${new Date(at).toISOString()}: ${cost.nanoUsd} and ${oracle.total_price}`);
        compared++;
      }
    }
  }
  assert.ok(compared > 500, `${compared} comparisons`);
});

test("only names the catalogue lists are matches to bill on", () => {
  assert.equal(fromCatalog("b", "openai", "", "gpt-5-mini")?.grade, "exact");
  assert.equal(fromCatalog("b", "openai", "", "gpt-5-mini-2025-08-07")?.grade, "alias");
  assert.equal(fromCatalog("b", "anthropic", "", "claude-sonnet-5-5-imaginary")?.grade ?? "none", "fuzzy");
  assert.equal(fromCatalog("b", "openai", "", "no-such-model"), undefined);
  assert.equal(fromCatalog("b", "vllm", "http://127.0.0.1/v1", "gpt-5-mini"), undefined, "one's own engine has no list price");
  assert.equal(fromCatalog("b", "openai-compatible", "https://api.openai.com/v1", "gpt-5-mini")?.grade, "exact");
});

test("a price that changed is two lines", () => {
  const lines = fromCatalog("b", "openai", "", "o3")!.lines;
  assert.deepEqual(
    lines.map((line) => line.inputPico),
    [10_000_000n, 2_000_000n],
  );
  assert.equal(lines[1]!.effectiveFromMs, Date.UTC(2025, 5, 10));
});
