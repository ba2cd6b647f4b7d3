import type { Usage } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { roundHalfUp } from "./decimal.ts";
import { BASELINE, dearestRates, ratesAt, type PriceIndex } from "./price-index.ts";
import type { Rates } from "./rates.ts";

/** The tokens of a usage that have a price; a protobuf `Usage` fits. */
export type UsageTokens = Omit<Usage, "$typeName" | "$unknown" | "anomaly">;

/** What an attempt costs. */
export interface Cost {
  readonly nanoUsd: bigint;
  /** True when something that was used has no price: the amount then misses it, and the entry is marked and alarmed. */
  readonly unpriced: boolean;
  /** exact | alias | fuzzy | override | rate | unknown. */
  readonly grade: string;
  readonly priceVersion: string;
  /** GPU-seconds the amount stands on; 0 for token prices. To be recorded, so that the ledger computes the same. */
  readonly gpuSeconds: number;
  /** True when those GPU-seconds were guessed from the tokens. */
  readonly estimated: boolean;
}

/** Tokens a second one GPU gives to one request's share. */
export interface GpuRates {
  readonly prefillPerS: number;
  readonly decodePerS: number;
}

/** A mid-size model on one data-centre GPU under load: what one token holds of it when nothing was measured. */
export const TYPICAL_GPU_RATES: GpuRates = { prefillPerS: 8_000, decodePerS: 600 };
/** A request that has the GPU to itself: the most one token can hold of it, for reservations. */
export const WORST_GPU_RATES: GpuRates = { prefillPerS: 1_000, decodePerS: 20 };

const PICO_PER_NANO = 1_000;
/** GPU time is counted in whole microseconds: 3.6e9 make an hour. */
const US_PER_HOUR = 3_600_000_000n;

const NO_TOKENS: UsageTokens = {
  inputTokens: 0,
  cacheReadTokens: 0,
  cacheWriteTokens: 0,
  cacheWrite1hTokens: 0,
  outputTokens: 0,
  reasoningTokens: 0,
  audioInputTokens: 0,
  audioOutputTokens: 0,
  imageInputTokens: 0,
  webSearches: 0,
  serviceTier: "",
};

/**
 * Cost of one attempt at the prices of its start: the sum over the disjoint classes in pico-USD, rounded half-up to nano
 * once. `gpuSeconds` counts only for backends priced by the hour; without it the tokens give a typical figure.
 * Never throws: a backend without a price costs 0 and says `unpriced`.
 */
export function costOf(index: PriceIndex, backend: string, usage: UsageTokens, atMs: number, gpuSeconds?: number): Cost {
  const matched = ratesAt(index, backend, atMs, promptTokensOf(usage), usage.serviceTier);
  if (matched === undefined) {
    return { nanoUsd: 0n, unpriced: true, grade: "unknown", priceVersion: index.version, gpuSeconds: 0, estimated: false };
  }
  const { rates, line } = matched;
  const rented = rates.perHourNano > 0n;
  const guessed = rented && gpuSeconds === undefined;
  const seconds = rented ? (gpuSeconds ?? gpuSecondsOf(usage, TYPICAL_GPU_RATES)) : 0;
  return {
    nanoUsd: amountOf(rates, usage, seconds),
    unpriced: hasUnpriced(rates, usage),
    grade: line.grade,
    priceVersion: index.version,
    gpuSeconds: seconds,
    estimated: guessed,
  };
}

/** Cost of a request that is still to be made, from token estimates. */
export function estimateCost(index: PriceIndex, backend: string, inputTokens: number, outputTokens: number, atMs: number): Cost {
  return costOf(index, backend, { ...NO_TOKENS, inputTokens, outputTokens }, atMs);
}

/**
 * The most an attempt can cost: every prompt token at the dearest input class and every output token at the dearest
 * output class of any prompt tier reached. Undefined when the backend has no price. `inputTokens` must itself be a bound.
 */
export function upperBound(
  index: PriceIndex,
  backend: string,
  inputTokens: number,
  maxOutputTokens: number,
  atMs: number,
): bigint | undefined {
  const usage = { ...NO_TOKENS, inputTokens, outputTokens: maxOutputTokens };
  let bound: bigint | undefined;
  for (const rates of dearestRates(index, backend, atMs)) {
    const amount = amountOf(rates, usage, rates.perHourNano > 0n ? gpuSecondsOf(usage, WORST_GPU_RATES) : 0);
    if (bound === undefined || amount > bound) bound = amount;
  }
  return bound;
}

/** The same tokens at the baseline's price; 0 without a baseline. */
export function baselineCost(index: PriceIndex, usage: UsageTokens, atMs: number): bigint {
  return index.lines.has(BASELINE) ? costOf(index, BASELINE, usage, atMs).nanoUsd : 0n;
}

/** All prompt tokens together: what prompt tiers go by. */
export function promptTokensOf(usage: UsageTokens): number {
  return (
    usage.inputTokens +
    usage.cacheReadTokens +
    usage.cacheWriteTokens +
    usage.cacheWrite1hTokens +
    usage.audioInputTokens +
    usage.imageInputTokens
  );
}

/** GPU-seconds of a request's tokens at the given rates; cached prompt tokens need none. */
export function gpuSecondsOf(usage: UsageTokens, rates: GpuRates): number {
  return (
    (usage.inputTokens + usage.cacheWriteTokens + usage.cacheWrite1hTokens) / rates.prefillPerS + usage.outputTokens / rates.decodePerS
  );
}

/**
 * A number for routing: expected nano-USD of a request, as a float, without allocating. NaN when the backend has no price.
 * Accounting uses {@link costOf}.
 */
export function expectedNanoUsd(
  index: PriceIndex,
  backend: string,
  inputTokens: number,
  cachedTokens: number,
  outputTokens: number,
  atMs: number,
): number {
  const matched = ratesAt(index, backend, atMs, inputTokens + cachedTokens, "");
  if (matched === undefined) return Number.NaN;
  const { rates } = matched;
  const pico =
    Math.max(0, rates.input) * inputTokens + Math.max(0, rates.cacheRead) * cachedTokens + Math.max(0, rates.output) * outputTokens;
  const gpuS = inputTokens / TYPICAL_GPU_RATES.prefillPerS + outputTokens / TYPICAL_GPU_RATES.decodePerS;
  return pico / PICO_PER_NANO + rates.perRequestNano + (Number(rates.perHourNano) * gpuS) / 3600;
}

/** Sum in pico, rounded once. Plain numbers while every partial sum is a safe integer, bigint beyond and for GPU time. */
function amountOf(rates: Rates, usage: UsageTokens, gpuSeconds: number): bigint {
  const pico = picoNumber(rates, usage);
  const exact = pico <= Number.MAX_SAFE_INTEGER;
  if (exact && gpuSeconds <= 0) return BigInt(Math.floor((pico + PICO_PER_NANO / 2) / PICO_PER_NANO));
  const sum = exact ? BigInt(pico) : picoBigint(rates, usage);
  const gpuUs = BigInt(Math.max(0, Math.round(gpuSeconds * 1e6)));
  return roundHalfUp(sum * US_PER_HOUR + rates.perHourNano * 1_000n * gpuUs, US_PER_HOUR * 1_000n);
}

/** Every term is >= 0, so a result in the safe range means that no step was rounded. */
function picoNumber(rates: Rates, usage: UsageTokens): number {
  const reasoning = Math.min(usage.reasoningTokens, usage.outputTokens);
  return (
    Math.max(0, rates.input) * usage.inputTokens +
    Math.max(0, rates.cacheRead) * usage.cacheReadTokens +
    Math.max(0, rates.cacheWrite) * usage.cacheWriteTokens +
    Math.max(0, rates.cacheWrite1h) * usage.cacheWrite1hTokens +
    Math.max(0, rates.output) * (usage.outputTokens - reasoning) +
    Math.max(0, rates.reasoning) * reasoning +
    Math.max(0, rates.audioInput) * usage.audioInputTokens +
    Math.max(0, rates.audioOutput) * usage.audioOutputTokens +
    Math.max(0, rates.imageInput) * usage.imageInputTokens +
    Math.max(0, rates.webSearchNano) * PICO_PER_NANO * usage.webSearches +
    rates.perRequestNano * PICO_PER_NANO
  );
}

function picoBigint(rates: Rates, usage: UsageTokens): bigint {
  const term = (rate: number, count: number): bigint => BigInt(Math.max(0, rate)) * BigInt(count);
  const reasoning = Math.min(usage.reasoningTokens, usage.outputTokens);
  return (
    term(rates.input, usage.inputTokens) +
    term(rates.cacheRead, usage.cacheReadTokens) +
    term(rates.cacheWrite, usage.cacheWriteTokens) +
    term(rates.cacheWrite1h, usage.cacheWrite1hTokens) +
    term(rates.output, usage.outputTokens - reasoning) +
    term(rates.reasoning, reasoning) +
    term(rates.audioInput, usage.audioInputTokens) +
    term(rates.audioOutput, usage.audioOutputTokens) +
    term(rates.imageInput, usage.imageInputTokens) +
    term(rates.webSearchNano, usage.webSearches) * 1_000n +
    term(rates.perRequestNano, 1) * 1_000n
  );
}

/** Something used has no price. A line of rent or of a price per request prices the tokens too. */
function hasUnpriced(rates: Rates, usage: UsageTokens): boolean {
  if (usage.webSearches > 0 && rates.webSearchNano < 0) return true;
  if (rates.perHourNano > 0n || (rates.perRequestNano > 0 && rates.input < 0 && rates.output < 0)) return false;
  const input = rates.input < 0 && usage.inputTokens > 0;
  const output = rates.output < 0 && usage.outputTokens > usage.reasoningTokens;
  const cache =
    (rates.cacheRead < 0 && usage.cacheReadTokens > 0) ||
    (rates.cacheWrite < 0 && usage.cacheWriteTokens > 0) ||
    (rates.cacheWrite1h < 0 && usage.cacheWrite1hTokens > 0);
  const other =
    (rates.reasoning < 0 && usage.reasoningTokens > 0) ||
    (rates.audioInput < 0 && usage.audioInputTokens > 0) ||
    (rates.audioOutput < 0 && usage.audioOutputTokens > 0) ||
    (rates.imageInput < 0 && usage.imageInputTokens > 0);
  return input || output || cache || other;
}
