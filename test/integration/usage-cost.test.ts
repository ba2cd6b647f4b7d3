import assert from "node:assert/strict";
import { test } from "node:test";
import { calcPrice, extractUsage, findProvider, type ModelPrice } from "@pydantic/genai-prices";
import { create } from "@bufbuild/protobuf";
import { PriceBookSchema, type PriceLine } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { Usage } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import type { Random } from "#libs/clock/index.ts";
import { SeededRandom } from "#libs/clock/fake.ts";
import { blankLine, compilePriceBook, costOf, parsePerMillion, parseUsd, type PriceIndex } from "#libs/money/index.ts";
import { fromCatalog } from "#services/cost-ledger/price-book/index.ts";
import { scheduledPrice, serviceTier, tier } from "#services/cost-ledger/price-book/parts.ts";
import { UsageMeter } from "#services/provider-adapters/anthropic/usage.ts";
import { normalizeUsage } from "#services/provider-adapters/openai/usage.ts";
import { secondOpinion, type PriceName, type PriceTexts } from "./second-calculator.ts";
import { ANTHROPIC, OPENAI_DIALECTS, randomUsage, type Dialect, type TrueUsage } from "./usage-dialects.ts";

/** Usage objects of each dialect. */
const OBJECTS = 10_000;
/** Objects priced by one random price line: making one costs more than using it. */
const OBJECTS_PER_LINE = 20;
/** A Tuesday, 12:00 and 23:30 in Berlin. */
const NOON = Date.UTC(2026, 10, 3, 11);
const NIGHT = Date.UTC(2026, 10, 3, 22, 30);
const DIALECTS = [...OPENAI_DIALECTS, ANTHROPIC];

const FIELDS: Readonly<Record<PriceName, keyof PriceLine>> = {
  input: "inputPico",
  cache_read: "cacheReadPico",
  cache_write: "cacheWritePico",
  cache_write_1h: "cacheWrite1hPico",
  output: "outputPico",
  reasoning: "reasoningPico",
  audio_input: "audioInputPico",
  audio_output: "audioOutputPico",
  image_input: "imageInputPico",
  per_request: "perRequestNano",
  web_search: "webSearchNano",
};

function lineOf(backend: string, texts: PriceTexts): PriceLine {
  const parsed = Object.entries(texts).map(([name, text]) => [
    FIELDS[name as PriceName],
    name === "per_request" || name === "web_search" ? parseUsd(text) : parsePerMillion(text),
  ]);
  return Object.assign(blankLine(backend), Object.fromEntries(parsed));
}

/** Prices as catalogues have them: up to six decimals, some classes without one, some free. */
function randomPrices(random: Random, chance: number): PriceTexts {
  const price = (): string => (random.next() < 0.05 ? "0" : (random.int(600_000_000) / 10 ** (3 + random.int(4))).toFixed(random.int(7)));
  const names = (Object.keys(FIELDS) as PriceName[]).filter(() => random.next() < chance);
  return Object.fromEntries(names.map((name) => [name, name === "per_request" ? `0.00${random.int(10_000)}` : price()]));
}

function normalised(dialect: Dialect, raw: Record<string, unknown>, service: string): Usage {
  if (dialect !== ANTHROPIC) return normalizeUsage(raw, service)!;
  const meter = new UsageMeter();
  // As in a stream: first zeros and the input, then the whole.
  if (typeof raw["input_tokens"] === "number") meter.take({ input_tokens: raw["input_tokens"], output_tokens: 1 });
  meter.take({ ...raw, service_tier: service === "" ? "standard" : service });
  return meter.usage()!;
}

/** One output token is what a stream starts with: an object without any would keep it. */
function withOutput(dialect: Dialect, used: TrueUsage): TrueUsage {
  return dialect === ANTHROPIC && used.output + used.reasoning === 0 ? { ...used, output: 1 } : used;
}

for (const dialect of DIALECTS) {
  test(`${dialect.name}: ${OBJECTS} random usage objects cost what a second calculator says, to the nano-dollar`, () => {
    const random = new SeededRandom(4_000 + DIALECTS.indexOf(dialect));
    for (let round = 0; round < OBJECTS; round += OBJECTS_PER_LINE) {
      const base = randomPrices(random, 0.7);
      const flex = randomPrices(random, 0.4);
      const large = randomPrices(random, 0.3);
      const nightly = randomPrices(random, 0.2);
      const above = random.int(200_000);
      const line = lineOf("b", { input: "1.25", output: "10", ...base });
      line.tiers = [tier(above, lineOf("", large))];
      line.serviceTiers = [serviceTier("flex", lineOf("", flex))];
      line.schedules = [scheduledPrice("night", lineOf("", nightly))];
      const night = {
        name: "night",
        tz: "Europe/Berlin",
        windows: [0, 1, 1, 2, 2, 3].map((day, at) => day * 1440 + (at % 2 === 0 ? 1320 : 0)),
      };
      const index = compilePriceBook(create(PriceBookSchema, { version: "v", lines: [line], schedules: [night] }));
      for (let number = 0; number < OBJECTS_PER_LINE; number++) {
        const used = withOutput(dialect, randomUsage(dialect, random, true));
        const isFlex = random.next() < 0.3;
        const isNight = random.next() < 0.3;
        const raw = dialect.write(used, random);
        const usage = normalised(dialect, raw, isFlex ? "flex" : "");
        const prompt = used.input + used.cacheRead + used.cacheWrite + used.cacheWrite1h + used.audioInput + used.imageInput;
        const levels = [
          ...(prompt > above ? [large] : []),
          ...(isFlex ? [flex] : []),
          ...(isNight ? [nightly] : []),
          { input: "1.25", output: "10", ...base },
        ];
        const expected = secondOpinion(levels, used);
        const cost = costOf(index, "b", usage, isNight ? NIGHT : NOON);
        const where = (): string => JSON.stringify({ raw, used, levels, above });
        assert.equal(usage.anomaly, false, where());
        assert.equal(cost.nanoUsd, expected.nanoUsd, where());
        assert.equal(cost.unpriced, expected.unpriced, where());
      }
    }
  });
}

/** Why a figure of the catalogue's own calculation is not ours. Closed: anything else fails. */
interface Disagreement {
  readonly name: string;
  readonly why: string;
  readonly applies: (sample: Sample) => boolean;
}

interface Sample {
  readonly dialect: Dialect;
  readonly used: TrueUsage;
  readonly raw: Record<string, unknown>;
  readonly prices: ModelPrice;
  /** How far apart; infinite where the catalogue refused. */
  readonly differenceNano: number;
}

const DISAGREEMENTS: readonly Disagreement[] = [
  {
    name: "cached audio",
    why: "audio and cache are stated side by side and may overlap: the catalogue refuses such an object, we bill it as disjoint",
    applies: ({ used }) => used.audioInput > 0 && used.cacheRead + used.cacheWrite > 0,
  },
  {
    name: "flat cache hits",
    why: "DeepSeek's older prompt_cache_hit_tokens: the catalogue does not read them and bills them as fresh input",
    applies: ({ used, raw }) => used.cacheRead > 0 && "prompt_cache_hit_tokens" in raw && !("prompt_tokens_details" in raw),
  },
  {
    name: "searches beside the tokens",
    why: "the catalogue reads web searches of Anthropic's objects only, though it has OpenRouter's price for them",
    applies: ({ dialect, used, prices }) => dialect !== ANTHROPIC && used.searches > 0 && "web_searches_kcount" in prices,
  },
  {
    name: "less than a pico-dollar",
    why: "a price such as a twelfth of a dollar has no last digit: we keep whole pico-dollars a token, the catalogue a float",
    applies: ({ used, prices, differenceNano }) =>
      Object.values(prices).some((price) => typeof price === "number" && !/^\d+(\.\d{1,6})?$/.test(String(price))) &&
      differenceNano <= 0.5 + (Object.values(used).reduce((sum, count) => sum + count, 0) * 0.5) / 1_000,
  },
];
/** Those that were needed: one that no longer is has to go. */
const needed = new Set<string>();

for (const dialect of DIALECTS) {
  const { catalogue } = dialect;
  if (catalogue === undefined) continue;
  test(`${dialect.name}: ${OBJECTS} random usage objects cost what the catalogue's calculation says, or differ for a reason with a name`, (t) => {
    const random = new SeededRandom(7_000 + DIALECTS.indexOf(dialect));
    const models = pricedModels(dialect);
    assert.ok(models.length > 0);
    const provider = findProvider({ providerId: catalogue.provider })!;
    const explained = new Map<string, number>();
    let agreed = 0;
    for (let number = 0; number < OBJECTS; number++) {
      const { name, index } = models[random.int(models.length)]!;
      const used = withOutput(dialect, randomUsage(dialect, random, false));
      const raw = dialect.write(used, random);
      const at = Date.UTC(2026, random.int(12), 1 + random.int(28), random.int(24), random.int(60));
      const cost = costOf(index, "b", normalised(dialect, raw, ""), at);
      let theirs: number | undefined;
      let prices: ModelPrice = {};
      let refusal = "";
      try {
        const { usage } = extractUsage(provider, { model: name, usage: raw }, catalogue.flavor);
        const result = calcPrice(usage, name, { providerId: catalogue.provider, timestamp: new Date(at) });
        theirs = result?.total_price;
        prices = result?.model_price ?? {};
      } catch (error) {
        refusal = String(error);
      }
      const differenceNano = theirs === undefined ? Number.POSITIVE_INFINITY : Math.abs(Number(cost.nanoUsd) - theirs * 1e9);
      // Half a nano-dollar of rounding, and what a sum of doubles loses.
      if (theirs !== undefined && differenceNano <= 0.501 + theirs * 1e-3) {
        agreed++;
        continue;
      }
      const sample = { dialect, used, raw, prices, differenceNano };
      const reason = DISAGREEMENTS.find(({ applies }) => applies(sample));
      const text = JSON.stringify({
        model: name,
        raw,
        used,
        ours: Number(cost.nanoUsd),
        theirs: theirs === undefined ? refusal : theirs * 1e9,
        unpriced: cost.unpriced,
        prices,
        at,
      });
      assert.ok(reason, `unexplained: ${text}`);
      needed.add(reason.name);
      explained.set(reason.name, (explained.get(reason.name) ?? 0) + 1);
    }
    t.diagnostic(
      `${agreed} of ${OBJECTS} agree; ${[...explained].map(([name, count]) => `${name}: ${count}`).join(", ") || "no differences"}`,
    );
  });
}

test("every reason to disagree with the catalogue is still one", () => {
  assert.deepEqual(
    DISAGREEMENTS.map(({ name }) => name).filter((name) => !needed.has(name)),
    [],
  );
});

function pricedModels({ provider, catalogue }: Dialect): { readonly name: string; readonly index: PriceIndex }[] {
  return findProvider({ providerId: catalogue!.provider })!.models.flatMap((model) => {
    const name = "equals" in model.match ? model.match.equals : model.id;
    const match = fromCatalog("b", provider, "", name);
    if (match === undefined || match.grade === "fuzzy") return [];
    const book = create(PriceBookSchema, { version: "v", lines: [...match.lines], schedules: [...match.schedules] });
    return [{ name, index: compilePriceBook(book) }];
  });
}
