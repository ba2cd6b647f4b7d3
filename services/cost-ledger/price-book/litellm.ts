import type { PriceLine } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { blankLine, parsePerToken } from "#libs/money/index.ts";
import type { CatalogMatch } from "./catalog.ts";
import { serviceTier, tier } from "./parts.ts";

/** Prices by model name, as LiteLLM's `model_prices_and_context_window.json` has them. */
export interface PriceFile {
  readonly path: string;
  readonly models: ReadonlyMap<string, Readonly<Record<string, unknown>>>;
}

/** Price fields in LiteLLM's names, dollars per token. */
const TOKEN_FIELDS = [
  ["input_cost_per_token", "inputPico"],
  ["cache_read_input_token_cost", "cacheReadPico"],
  ["cache_creation_input_token_cost", "cacheWritePico"],
  ["cache_creation_input_token_cost_above_1hr", "cacheWrite1hPico"],
  ["output_cost_per_token", "outputPico"],
  ["output_cost_per_reasoning_token", "reasoningPico"],
  ["input_cost_per_audio_token", "audioInputPico"],
  ["output_cost_per_audio_token", "audioOutputPico"],
  ["input_cost_per_image_token", "imageInputPico"],
] as const;

/** Suffix in LiteLLM's field names -> service tier on the wire. */
const SERVICE_SUFFIXES = [
  ["_batches", "batch"],
  ["_flex", "flex"],
  ["_priority", "priority"],
] as const;

/** A price above it is a slip (dollars per million tokens in a field for one), and would not fit our integers for long. */
const DOLLARS_PER_TOKEN_MAX = 1;

/** Reads a price file. Throws REQUEST_MALFORMED naming file and model when anything in it is not a price: a half-read file bills wrongly. */
export function parsePriceFile(path: string, text: string): PriceFile {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new SignalboxError("REQUEST_MALFORMED", `price file ${path} is not JSON`, { cause });
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) throw refusal(path, "", "expected an object of models");
  const models = new Map<string, Readonly<Record<string, unknown>>>();
  for (const [name, row] of Object.entries(parsed)) {
    if (name === "sample_spec") continue;
    if (typeof row !== "object" || row === null || Array.isArray(row)) throw refusal(path, name, "expected an object of fields");
    for (const [field, value] of Object.entries(row)) {
      if (!/_cost(_per_|$|_above_)/.test(field) || typeof value === "object") continue;
      if (typeof value !== "number" || !Number.isFinite(value) || value < 0) throw refusal(path, name, `${field} is not a price`);
      if (field.includes("_per_token") && value > DOLLARS_PER_TOKEN_MAX)
        throw refusal(path, name, `${field} is more than a dollar a token`);
    }
    models.set(name, row as Readonly<Record<string, unknown>>);
  }
  return { path, models };
}

/** A model's prices in a file: by its own name (exact) or as `provider/model` (alias). */
export function fromPriceFile(file: PriceFile, backend: string, provider: string, model: string): CatalogMatch | undefined {
  const own = file.models.get(model);
  const row = own ?? file.models.get(`${provider}/${model}`);
  if (row === undefined) return undefined;
  const line = tokenLine(backend, row, "");
  if (line.inputPico < 0n && line.outputPico < 0n) return undefined;
  const grade = own ? "exact" : "alias";
  line.grade = grade;
  line.source = file.path;
  line.tiers = tiersOf(row);
  for (const [suffix, name] of SERVICE_SUFFIXES) {
    const priced = tokenLine("", row, suffix);
    if (priced.inputPico >= 0n || priced.outputPico >= 0n) line.serviceTiers.push(serviceTier(name, priced));
  }
  return { grade, lines: [line], schedules: [] };
}

function tokenLine(backend: string, row: Readonly<Record<string, unknown>>, suffix: string): PriceLine {
  const line = blankLine(backend);
  for (const [theirs, ours] of TOKEN_FIELDS) {
    const price = row[theirs + suffix];
    if (typeof price === "number") line[ours] = parsePerToken(price);
  }
  return line;
}

function tiersOf(row: Readonly<Record<string, unknown>>): ReturnType<typeof tier>[] {
  const sizes = new Set<number>();
  for (const field of Object.keys(row)) {
    const match = /_above_(\d+)k_tokens$/.exec(field);
    if (match) sizes.add(Number(match[1]));
  }
  return [...sizes].sort((a, b) => a - b).map((size) => tier(size * 1000, tokenLine("", row, `_above_${size}k_tokens`)));
}

function refusal(path: string, model: string, problem: string): SignalboxError {
  return new SignalboxError("REQUEST_MALFORMED", `price file ${path}${model === "" ? "" : `, model ${model}`}: ${problem}`);
}
