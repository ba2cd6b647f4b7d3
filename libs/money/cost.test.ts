import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { UsageSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { PriceBookSchema, type PriceLine } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { blankLine } from "./blank-line.ts";
import { costOf, estimateCost, expectedNanoUsd, upperBound, type UsageTokens } from "./cost.ts";
import { compilePriceBook, isPriced, type PriceIndex } from "./price-index.ts";

const AT = Date.UTC(2026, 10, 4, 12, 0);

function line(fields: Partial<PriceLine>, backend = "b"): PriceLine {
  return Object.assign(blankLine(backend), fields);
}

function indexOf(...lines: PriceLine[]): PriceIndex {
  return compilePriceBook(
    create(PriceBookSchema, { version: "v1", lines, schedules: [{ name: "night", tz: "Europe/Berlin", windows: [1320, 1440] }] }),
  );
}

function usage(fields: Partial<UsageTokens>): UsageTokens {
  return Object.assign(create(UsageSchema), fields);
}

const PRICES = [
  ["inputPico", "inputTokens", "inputPico"],
  ["cacheReadPico", "cacheReadTokens", "inputPico"],
  ["cacheWritePico", "cacheWriteTokens", "inputPico"],
  ["cacheWrite1hPico", "cacheWrite1hTokens", "cacheWritePico"],
  ["outputPico", "outputTokens", "outputPico"],
  ["reasoningPico", "reasoningTokens", "outputPico"],
  ["audioInputPico", "audioInputTokens", "inputPico"],
  ["audioOutputPico", "audioOutputTokens", "outputPico"],
  ["imageInputPico", "imageInputTokens", "inputPico"],
] as const;

/** An independent calculation: thousandths of a nano-dollar, class by class, with the parent's price where there is none. */
function expectedNano(price: PriceLine, used: UsageTokens): bigint {
  const priceOf = (name: (typeof PRICES)[number][0]): bigint => {
    if (price[name] !== -1n) return price[name];
    const parent = PRICES.find((row) => row[0] === name)![2];
    return parent === name ? 0n : priceOf(parent);
  };
  let thousandths = 0n;
  for (const [name, count] of PRICES) {
    let tokens = BigInt(used[count]);
    if (count === "outputTokens") tokens -= BigInt(used.reasoningTokens);
    thousandths += tokens * priceOf(name);
  }
  thousandths += (price.perRequestNano === -1n ? 0n : price.perRequestNano) * 1000n;
  thousandths += (price.webSearchNano === -1n ? 0n : price.webSearchNano) * 1000n * BigInt(used.webSearches);
  const whole = thousandths / 1000n;
  return thousandths % 1000n >= 500n ? whole + 1n : whole;
}

const price = fc.oneof(fc.constant(-1n), fc.bigInt({ min: 0n, max: 600_000_000n }));
const priceLine = fc
  .record({
    inputPico: fc.bigInt({ min: 0n, max: 150_000_000n }),
    outputPico: fc.bigInt({ min: 0n, max: 600_000_000n }),
    cacheReadPico: price,
    cacheWritePico: price,
    cacheWrite1hPico: price,
    reasoningPico: price,
    audioInputPico: price,
    audioOutputPico: price,
    imageInputPico: price,
    perRequestNano: fc.oneof(fc.constant(-1n), fc.bigInt({ min: 0n, max: 10n ** 9n })),
    webSearchNano: fc.bigInt({ min: 0n, max: 10n ** 8n }),
  })
  .map((fields) => line(fields));
const tokens = fc.oneof(fc.constant(0), fc.nat(4000), fc.nat(4_000_000_000));
const anyUsage = fc
  .record({
    inputTokens: tokens,
    cacheReadTokens: tokens,
    cacheWriteTokens: tokens,
    cacheWrite1hTokens: tokens,
    outputTokens: tokens,
    reasoningTokens: tokens,
    audioInputTokens: tokens,
    audioOutputTokens: tokens,
    imageInputTokens: tokens,
    webSearches: fc.nat(50),
  })
  .map((fields) => usage({ ...fields, reasoningTokens: Math.min(fields.reasoningTokens, fields.outputTokens) }));

test("10,000 random usages cost what an independent calculation says, to the nano-dollar", () => {
  fc.assert(
    fc.property(priceLine, anyUsage, (prices, used) => {
      const cost = costOf(indexOf(prices), "b", used, AT);
      assert.equal(cost.nanoUsd, expectedNano(prices, used));
      assert.equal(cost.unpriced, false);
    }),
    { numRuns: 10_000 },
  );
});

test("a price change holds from its moment on, never before", () => {
  const index = indexOf(line({ inputPico: 2_000n, effectiveFromMs: AT }), line({ inputPico: 1_000n }));
  const used = usage({ inputTokens: 10 });
  assert.equal(costOf(index, "b", used, AT - 1).nanoUsd, 10n);
  assert.equal(costOf(index, "b", used, AT).nanoUsd, 20n);
});

test("the whole prompt decides the tier, cached tokens included", () => {
  const index = indexOf(
    line({
      inputPico: 1_000n,
      outputPico: 5_000n,
      tiers: [{ $typeName: "signalbox.ledger.v1.PriceTier", aboveTokens: 200, line: line({ inputPico: 2_000n }) }],
    }),
  );
  assert.equal(costOf(index, "b", usage({ inputTokens: 200, outputTokens: 1 }), AT).nanoUsd, 205n);
  assert.equal(costOf(index, "b", usage({ inputTokens: 101, cacheReadTokens: 100, outputTokens: 1 }), AT).nanoUsd, 407n);
});

test("service tiers and schedules replace only the prices they state", () => {
  const index = indexOf(
    line({
      inputPico: 1_000n,
      outputPico: 4_000n,
      serviceTiers: [{ $typeName: "signalbox.ledger.v1.ServiceTierPrice", tier: "batch", line: line({ inputPico: 500n }) }],
      schedules: [{ $typeName: "signalbox.ledger.v1.ScheduledPrice", schedule: "night", line: line({ outputPico: 3_000n }) }],
    }),
  );
  const used = { inputTokens: 10, outputTokens: 10 };
  const night = Date.UTC(2026, 10, 2, 21, 30); // 22:30 on a Monday in Berlin
  assert.equal(costOf(index, "b", usage(used), AT).nanoUsd, 50n);
  assert.equal(costOf(index, "b", usage({ ...used, serviceTier: "batch" }), AT).nanoUsd, 45n);
  assert.equal(costOf(index, "b", usage({ ...used, serviceTier: "batch" }), night).nanoUsd, 35n);
  assert.equal(costOf(index, "b", usage({ ...used, serviceTier: "default" }), AT).nanoUsd, 50n, "an unlisted tier is the base price");
});

test("GPU time is rent divided by seconds, rounded once", () => {
  const index = indexOf(line({ perHourNano: 1_900_000_000n, grade: "rate" }));
  const cost = costOf(index, "b", usage({ inputTokens: 5 }), AT, 3);
  assert.equal(cost.nanoUsd, 1_583_333n);
  assert.equal(cost.unpriced, false);
  assert.equal(costOf(index, "b", usage({}), AT, 0).nanoUsd, 0n);
  const guessed = costOf(index, "b", usage({ inputTokens: 8000, outputTokens: 600 }), AT);
  assert.equal(guessed.estimated, true);
  assert.equal(guessed.nanoUsd, costOf(index, "b", usage({}), AT, 2).nanoUsd);
});

test("nothing without a price is silently free", () => {
  const index = indexOf(line({ inputPico: 1_000n }), line({ grade: "unknown", inputPico: 0n }, "u"));
  assert.deepEqual(
    [costOf(index, "gone", usage({ inputTokens: 1 }), AT).unpriced, costOf(index, "gone", usage({}), AT).grade],
    [true, "unknown"],
  );
  assert.equal(costOf(index, "u", usage({ inputTokens: 1 }), AT).unpriced, true);
  assert.equal(costOf(index, "b", usage({ inputTokens: 1 }), AT).unpriced, false);
  assert.equal(costOf(index, "b", usage({ outputTokens: 1 }), AT).unpriced, true);
  assert.equal(costOf(index, "b", usage({ webSearches: 1 }), AT).unpriced, true);
  assert.deepEqual([isPriced(index, "b", AT), isPriced(index, "u", AT), isPriced(index, "gone", AT)], [true, false, false]);
  assert.equal(upperBound(index, "gone", 1, 1, AT), undefined);
});

test("a reservation is never below what the attempt can cost", () => {
  const tier = fc.record({ inputPico: price, outputPico: price });
  fc.assert(
    fc.property(priceLine, tier, anyUsage, (prices, above, used) => {
      prices.tiers = [{ $typeName: "signalbox.ledger.v1.PriceTier", aboveTokens: 1000, line: line(above) }];
      const index = indexOf(prices);
      const prompt =
        used.inputTokens +
        used.cacheReadTokens +
        used.cacheWriteTokens +
        used.cacheWrite1hTokens +
        used.audioInputTokens +
        used.imageInputTokens;
      const bound = upperBound(index, "b", prompt, used.outputTokens + used.audioOutputTokens, AT)!;
      const searches = BigInt(used.webSearches) * prices.webSearchNano;
      assert.ok(costOf(index, "b", used, AT).nanoUsd <= bound + searches);
    }),
    { numRuns: 2_000 },
  );
});

test("the figure for routing agrees with the exact one", () => {
  fc.assert(
    fc.property(priceLine, fc.nat(200_000), fc.nat(20_000), (prices, input, output) => {
      const index = indexOf(prices);
      const exact = Number(estimateCost(index, "b", input, output, AT).nanoUsd);
      assert.ok(Math.abs(expectedNanoUsd(index, "b", input, 0, output, AT) - exact) <= 0.5 + exact * 1e-9);
    }),
  );
});
