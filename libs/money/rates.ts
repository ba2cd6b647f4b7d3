import type { PriceLine } from "#gen/signalbox/ledger/v1/ledger_pb.ts";

/** A price that is not stated. In base lines it means "take the parent class", in tiers "take the base price". */
export const UNPRICED = -1n;

/** What one token of each class costs, in pico-USD, after all fallbacks; -1 = no price at all. */
export interface Rates {
  readonly input: number;
  readonly cacheRead: number;
  readonly cacheWrite: number;
  readonly cacheWrite1h: number;
  readonly output: number;
  readonly reasoning: number;
  readonly audioInput: number;
  readonly audioOutput: number;
  readonly imageInput: number;
  /** Nano-USD. */
  readonly perRequestNano: number;
  /** Nano-USD; -1 = no price. */
  readonly webSearchNano: number;
  /** Nano-USD an hour of one GPU; 0 = priced by tokens. */
  readonly perHourNano: bigint;
  /** The same as a float, for estimates. */
  readonly hourNano: number;
}

const FIELDS = [
  "inputPico",
  "cacheReadPico",
  "cacheWritePico",
  "cacheWrite1hPico",
  "outputPico",
  "reasoningPico",
  "audioInputPico",
  "audioOutputPico",
  "imageInputPico",
  "perRequestNano",
  "webSearchNano",
  "perHourNano",
] as const;

/** The prices of a line, unresolved. */
export type RawPrices = Record<(typeof FIELDS)[number], bigint>;

/** `over` where it states a price, else `base`. */
export function overlay(base: RawPrices, over: RawPrices | PriceLine | undefined): RawPrices {
  if (over === undefined) return base;
  const merged = {} as RawPrices;
  for (const field of FIELDS) merged[field] = over[field] >= 0n ? over[field] : base[field];
  return merged;
}

/** Applies the class fallbacks: caches, images and audio take the input's price, a 1-hour cache the cache's, reasoning and audio the output's. */
export function resolve(raw: RawPrices): Rates {
  const perHourNano = raw.perHourNano > 0n ? raw.perHourNano : 0n;
  const cacheWrite = firstPriced(raw.cacheWritePico, raw.inputPico);
  return {
    input: Number(raw.inputPico),
    cacheRead: Number(firstPriced(raw.cacheReadPico, raw.inputPico)),
    cacheWrite: Number(cacheWrite),
    cacheWrite1h: Number(firstPriced(raw.cacheWrite1hPico, cacheWrite)),
    output: Number(raw.outputPico),
    reasoning: Number(firstPriced(raw.reasoningPico, raw.outputPico)),
    audioInput: Number(firstPriced(raw.audioInputPico, raw.inputPico)),
    audioOutput: Number(firstPriced(raw.audioOutputPico, raw.outputPico)),
    imageInput: Number(firstPriced(raw.imageInputPico, raw.inputPico)),
    perRequestNano: Number(raw.perRequestNano > 0n ? raw.perRequestNano : 0n),
    webSearchNano: Number(raw.webSearchNano),
    perHourNano,
    hourNano: Number(perHourNano),
  };
}

function firstPriced(own: bigint, parent: bigint): bigint {
  return own >= 0n ? own : parent;
}
