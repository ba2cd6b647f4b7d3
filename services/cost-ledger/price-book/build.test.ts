import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { UsageSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { SeededRandom } from "#libs/clock/fake.ts";
import { defaultBackend, defaultConfig, NO_PRICES } from "#libs/config/index.ts";
import type { Config, PriceOverride } from "#libs/config/model.ts";
import { baselineCost, compilePriceBook, costOf, isPriced } from "#libs/money/index.ts";
import { buildPriceBook } from "./build.ts";
import { parsePriceFile } from "./litellm.ts";

const NOVEMBER = Date.UTC(2026, 10, 1);

function override(parts: Partial<PriceOverride> & { backend: string }): PriceOverride {
  return { ...NO_PRICES, effectiveFromMs: 0, schedule: undefined, tiers: [], serviceTiers: new Map(), ...parts };
}

function config(prices: Partial<Config["prices"]> = {}): Config {
  const backends = [
    defaultBackend({ name: "cloud", provider: "openai", model: "gpt-5-mini" }),
    defaultBackend({ name: "gpu", provider: "vllm", model: "llama", price: { ...NO_PRICES, perHourNano: 1_900_000_000n } }),
    defaultBackend({ name: "free", provider: "ollama", model: "llama" }),
  ];
  return defaultConfig({
    backends: new Map(backends.map((backend) => [backend.name, backend])),
    prices: { onUnknown: "reject", baseline: "openai/gpt-5", overrides: [], files: [], ...prices },
    schedules: new Map([["night", { name: "night", tz: "UTC", windows: [{ from: 0, to: 360 }] }]]),
  });
}

const USAGE = create(UsageSchema, { inputTokens: 1_000_000 });

test("each backend's price comes from the first source that has one, and what has none says how to give it one", () => {
  const { book, warnings } = buildPriceBook(config(), []);
  const index = compilePriceBook(book);
  assert.equal(costOf(index, "cloud", USAGE, NOVEMBER).nanoUsd, 250_000_000n);
  assert.equal(costOf(index, "cloud", USAGE, NOVEMBER).grade, "exact");
  assert.equal(costOf(index, "gpu", USAGE, NOVEMBER, 3600).nanoUsd, 1_900_000_000n);
  assert.equal(isPriced(index, "free", NOVEMBER), false);
  assert.equal(warnings.length, 1);
  assert.match(warnings[0]!, /backend free has no price/);
  assert.equal(baselineCost(index, USAGE, NOVEMBER), 1_250_000_000n);
});

test("an override holds from its moment on and a schedule only in its hours", () => {
  const overrides = [
    override({ backend: "cloud", effectiveFromMs: NOVEMBER, inputPico: 300_000n, outputPico: 1n }),
    override({ backend: "gpu", schedule: "night", effectiveFromMs: NOVEMBER, perHourNano: 1_100_000_000n }),
  ];
  const index = compilePriceBook(buildPriceBook(config({ overrides }), []).book);
  assert.equal(costOf(index, "cloud", USAGE, NOVEMBER - 1).nanoUsd, 250_000_000n);
  assert.equal(costOf(index, "cloud", USAGE, NOVEMBER).nanoUsd, 300_000_000n);
  const monday = NOVEMBER + 24 * 3_600_000;
  assert.equal(costOf(index, "gpu", USAGE, monday + 3_600_000, 3600).nanoUsd, 1_100_000_000n);
  assert.equal(costOf(index, "gpu", USAGE, monday + 7 * 3_600_000, 3600).nanoUsd, 1_900_000_000n);
  assert.equal(costOf(index, "gpu", USAGE, Date.UTC(2026, 9, 26, 1), 3600).nanoUsd, 1_900_000_000n, "not before it was agreed");
});

test("equal prices have an equal version and any other price another", () => {
  const version = (parts: Partial<Config["prices"]> = {}): string => buildPriceBook(config(parts), []).book.version;
  assert.equal(version(), version());
  assert.match(version(), /^[0-9a-f]{16}$/);
  assert.notEqual(version(), version({ overrides: [override({ backend: "free", inputPico: 1n })] }));
  assert.notEqual(version(), version({ onUnknown: "allow_unpriced" }));
});

test("a LiteLLM file prices models by name, with tiers and service tiers", () => {
  const file = parsePriceFile(
    "prices.json",
    JSON.stringify({
      sample_spec: { input_cost_per_token: "a description" },
      "ollama/llama": {
        input_cost_per_token: 1e-7,
        output_cost_per_token: 2.5e-7,
        input_cost_per_token_above_200k_tokens: 2e-7,
        input_cost_per_token_batches: 5e-8,
        mode: "chat",
      },
    }),
  );
  const index = compilePriceBook(buildPriceBook(config(), [file]).book);
  assert.equal(costOf(index, "free", create(UsageSchema, { inputTokens: 1000, outputTokens: 10 }), NOVEMBER).nanoUsd, 102_500n);
  assert.equal(costOf(index, "free", USAGE, NOVEMBER).nanoUsd, 200_000_000n);
  assert.equal(costOf(index, "free", create(UsageSchema, { inputTokens: 1000, serviceTier: "batch" }), NOVEMBER).nanoUsd, 50_000n);
  assert.equal(costOf(index, "free", USAGE, NOVEMBER).grade, "alias");
});

test("a malformed price file is refused whole, naming file, model and field", () => {
  const good = '"good":{"input_cost_per_token":1e-6,"output_cost_per_token":2e-6}';
  const cases: readonly (readonly [string, RegExp])[] = [
    ["", /p\.json is not JSON/],
    ["{", /p\.json is not JSON/],
    ["\0\u0001\u0002", /p\.json is not JSON/],
    ["NaN", /p\.json is not JSON/],
    [`{${good},"m":{"input_cost_per_token":NaN}}`, /p\.json is not JSON/],
    ["[]", /p\.json: expected an object/],
    ["null", /p\.json: expected an object/],
    ["7", /p\.json: expected an object/],
    [`{${good},"m":7}`, /p\.json, model m: expected an object/],
    [`{${good},"m":[1]}`, /p\.json, model m: expected an object/],
    [`{${good},"m":{"input_cost_per_token":"free"}}`, /p\.json, model m: input_cost_per_token is not a price/],
    [`{${good},"m":{"input_cost_per_token":"0.1"}}`, /p\.json, model m: input_cost_per_token is not a price/],
    [`{${good},"m":{"output_cost_per_token":-1}}`, /p\.json, model m: output_cost_per_token is not a price/],
    [`{${good},"m":{"output_cost_per_token":true}}`, /p\.json, model m: output_cost_per_token is not a price/],
    [`{${good},"m":{"output_cost_per_token":1e999}}`, /p\.json, model m: output_cost_per_token is not a price/],
    [`{${good},"m":{"cache_read_input_token_cost":-1e-9}}`, /p\.json, model m: cache_read_input_token_cost is not a price/],
    [`{${good},"m":{"input_cost_per_token_above_200k_tokens":"x"}}`, /model m: input_cost_per_token_above_200k_tokens is not a price/],
    [`{${good},"m":{"output_cost_per_token":15}}`, /p\.json, model m: output_cost_per_token is more than a dollar a token/],
    [`{${good},"m":{"output_cost_per_token":1e300}}`, /p\.json, model m: output_cost_per_token is more than a dollar a token/],
  ];
  for (const [text, message] of cases) assert.throws(() => parsePriceFile("p.json", text), message, text);
});

test("a price file cut off at any byte is refused", () => {
  const text = JSON.stringify({ a: { input_cost_per_token: 1e-6, mode: "chat" }, b: { output_cost_per_token: 0.5 } });
  for (let end = 0; end < text.length; end++) assert.throws(() => parsePriceFile("p.json", text.slice(0, end)), /p\.json/);
  assert.equal(parsePriceFile("p.json", text).models.size, 2);
});

test("the price of an attempt is the one in force when it began, whatever lines there are", () => {
  const random = new SeededRandom(44);
  for (let round = 0; round < 200; round++) {
    const changes = Array.from({ length: 1 + random.int(5) }, () => ({
      atMs: NOVEMBER + random.int(20) * 1_000,
      pico: BigInt(1 + random.int(1_000_000)),
    }));
    const unique = changes.filter(({ atMs }, at) => changes.findIndex((other) => other.atMs === atMs) === at);
    const overrides = unique.map(({ atMs, pico }) =>
      override({ backend: "free", effectiveFromMs: atMs, inputPico: pico, outputPico: pico }),
    );
    const index = compilePriceBook(buildPriceBook(config({ overrides }), []).book);
    for (let atMs = NOVEMBER - 1_000; atMs <= NOVEMBER + 21_000; atMs += 500) {
      for (const startedMs of [atMs - 0.001, atMs, atMs + 0.001]) {
        const due = unique.filter((change) => change.atMs <= startedMs).toSorted((a, b) => b.atMs - a.atMs)[0];
        const cost = costOf(index, "free", create(UsageSchema, { inputTokens: 1_000 }), startedMs);
        assert.deepEqual([cost.nanoUsd, cost.unpriced], due ? [due.pico, false] : [0n, true], `${startedMs - NOVEMBER} ms`);
      }
    }
  }
});
