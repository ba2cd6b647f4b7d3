import { createRequire } from "node:module";
import type * as GenaiPrices from "@pydantic/genai-prices";
import type { PriceLine, Schedule } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { ProviderName } from "#libs/config/model.ts";
import { blankLine, parseCataloguePerMillion, parseUsd } from "#libs/money/index.ts";
import { dailyWindows, scheduledPrice, tier } from "./parts.ts";

type ModelInfo = GenaiPrices.ModelInfo;
type ModelPrice = GenaiPrices.ModelPrice;

/** The catalogue takes some megabytes, and who states every price needs none: it is loaded when it is first asked. */
let catalogue: typeof GenaiPrices | undefined;

function loadCatalogue(): typeof GenaiPrices {
  return (catalogue ??= createRequire(import.meta.url)("@pydantic/genai-prices") as typeof GenaiPrices);
}

/** How surely a catalogue row is the model asked for. */
export type MatchGrade = "exact" | "alias" | "fuzzy";

/** Prices of one model over time, from a catalogue. */
export interface CatalogMatch {
  readonly grade: MatchGrade;
  /** Ascending by the moment they come into force. */
  readonly lines: readonly PriceLine[];
  /** Schedules the lines name. */
  readonly schedules: readonly Schedule[];
}

/** Our provider words as the catalogue names them; engines one runs oneself have no list price. */
const CATALOG_PROVIDERS: Partial<Record<ProviderName, string>> = {
  openai: "openai",
  azure: "azure",
  anthropic: "anthropic",
  gemini: "google",
  bedrock: "aws",
  groq: "groq",
  mistral: "mistral",
  deepseek: "deepseek",
  xai: "x-ai",
  openrouter: "openrouter",
  together: "together",
  fireworks: "fireworks",
};

/** Price fields as the catalogue names them, dollars per million tokens. */
const TOKEN_FIELDS = [
  ["input_mtok", "inputPico"],
  ["cache_read_mtok", "cacheReadPico"],
  ["cache_write_mtok", "cacheWritePico"],
  ["cache_write_1h_mtok", "cacheWrite1hPico"],
  ["output_mtok", "outputPico"],
  ["output_reasoning_mtok", "reasoningPico"],
  ["input_audio_mtok", "audioInputPico"],
  ["output_audio_mtok", "audioOutputPico"],
  ["input_image_mtok", "imageInputPico"],
] as const;

/** The built-in catalogue's prices of a provider's model; undefined when it has none. Never matches across providers. */
export function fromCatalog(backend: string, provider: string, url: string, model: string): CatalogMatch | undefined {
  const providerId = CATALOG_PROVIDERS[provider as ProviderName] ?? (provider === "openai-compatible" ? undefined : provider);
  const found = findModel(model, providerId, url);
  if (found === undefined) return undefined;
  const source = `genai-prices ${found.provider}/${found.model.id}`;
  const conditional = Array.isArray(found.model.prices) ? found.model.prices : [{ prices: found.model.prices }];
  const lines: PriceLine[] = [];
  const schedules: Schedule[] = [];
  for (const { constraint, prices } of conditional) {
    const line = lineFrom(backend, prices, found.grade, source);
    if (constraint?.type === "time_of_date") {
      const schedule = dailyWindows(constraint.start_time, constraint.end_time);
      schedules.push(schedule);
      for (const each of lines) each.schedules.push(scheduledPrice(schedule.name, line));
      continue;
    }
    if (constraint) line.effectiveFromMs = Date.parse(`${constraint.start_date}T00:00:00Z`);
    lines.push(line);
  }
  return { grade: found.grade, lines, schedules };
}

function findModel(
  model: string,
  providerId: string | undefined,
  url: string,
): { readonly model: ModelInfo; readonly provider: string; readonly grade: MatchGrade } | undefined {
  try {
    const options = providerId === undefined ? { providerApiUrl: url } : { providerId };
    const found = loadCatalogue().calcPrice({}, model, options);
    if (found === null) return undefined;
    return { model: found.model, provider: found.provider.id, grade: gradeOf(found.model, model) };
  } catch {
    // The catalogue throws on rows it cannot price: they are no rows for us.
    return undefined;
  }
}

/** The catalogue matches loosely (a newer model by its elder's prefix); only a name it lists is a match to bill on. */
function gradeOf(found: ModelInfo, model: string): MatchGrade {
  const wanted = model.toLowerCase().trim();
  if (found.id.toLowerCase() === wanted) return "exact";
  return listsName(found.match, wanted) ? "alias" : "fuzzy";
}

function listsName(match: ModelInfo["match"], wanted: string): boolean {
  if ("equals" in match) return match.equals.toLowerCase() === wanted;
  return "or" in match && match.or.some((each) => listsName(each, wanted));
}

function lineFrom(backend: string, prices: ModelPrice, grade: MatchGrade, source: string): PriceLine {
  const line = Object.assign(blankLine(backend), { grade, source });
  const sizes = new Map<number, PriceLine>();
  for (const [theirs, ours] of TOKEN_FIELDS) {
    const price = prices[theirs];
    if (price === undefined) continue;
    line[ours] = parseCataloguePerMillion(typeof price === "number" ? price : price.base);
    if (typeof price === "number") continue;
    for (const step of price.tiers) {
      const above = sizes.get(step.start) ?? blankLine("");
      sizes.set(step.start, above);
      above[ours] = parseCataloguePerMillion(step.price);
    }
  }
  if (typeof prices["requests_kcount"] === "number") line.perRequestNano = parseUsd(prices["requests_kcount"]) / 1000n;
  if (typeof prices["web_searches_kcount"] === "number") line.webSearchNano = parseUsd(prices["web_searches_kcount"]) / 1000n;
  line.tiers = [...sizes].sort((a, b) => a[0] - b[0]).map(([size, above]) => tier(size, above));
  return line;
}
