import type { TrueUsage } from "./usage-dialects.ts";

/** Prices as a person writes them: dollars per million tokens, `per_request` and `web_search` in dollars a piece. */
export type PriceTexts = Readonly<Partial<Record<PriceName, string>>>;

/** Names of the configuration's price fields. */
export type PriceName =
  | "input"
  | "cache_read"
  | "cache_write"
  | "cache_write_1h"
  | "output"
  | "reasoning"
  | "audio_input"
  | "audio_output"
  | "image_input"
  | "per_request"
  | "web_search";

/** What a class costs when it has no price of its own. */
const PARENT: Readonly<Partial<Record<PriceName, PriceName>>> = {
  cache_read: "input",
  cache_write: "input",
  cache_write_1h: "cache_write",
  audio_input: "input",
  image_input: "input",
  reasoning: "output",
  audio_output: "output",
};

const CLASSES: readonly (readonly [keyof TrueUsage, PriceName])[] = [
  ["input", "input"],
  ["cacheRead", "cache_read"],
  ["cacheWrite", "cache_write"],
  ["cacheWrite1h", "cache_write_1h"],
  ["audioInput", "audio_input"],
  ["imageInput", "image_input"],
  ["output", "output"],
  ["reasoning", "reasoning"],
  ["audioOutput", "audio_output"],
];

/** An exact decimal: digits and how many of them stand behind the point. */
interface Decimal {
  readonly digits: bigint;
  readonly places: number;
}

function decimal(text: string): Decimal {
  const [mantissa, exponent] = text.toLowerCase().split("e") as [string, string?];
  const [whole, fraction = ""] = mantissa.split(".") as [string, string?];
  const places = fraction.length - Number(exponent ?? 0);
  const digits = BigInt(whole + fraction);
  return places >= 0 ? { digits, places } : { digits: digits * 10n ** BigInt(-places), places: 0 };
}

function sum(a: Decimal, b: Decimal): Decimal {
  const places = Math.max(a.places, b.places);
  return { digits: a.digits * 10n ** BigInt(places - a.places) + b.digits * 10n ** BigInt(places - b.places), places };
}

/** What a second calculator makes of it. */
export interface SecondOpinion {
  readonly nanoUsd: bigint;
  readonly unpriced: boolean;
}

/**
 * The cost of a usage, written a second time and otherwise: on true usage instead of a provider's object, on price texts, in
 * decimals. `levels` are price lists, the most special one first: the first one that states a class counts for it.
 */
export function secondOpinion(levels: readonly PriceTexts[], used: TrueUsage): SecondOpinion {
  const stated = (name: PriceName): string | undefined => levels.find((level) => level[name] !== undefined)?.[name];
  const priceOf = (name: PriceName): string | undefined => {
    const own = stated(name);
    const parent = PARENT[name];
    return own ?? (parent === undefined ? undefined : priceOf(parent));
  };
  let total: Decimal = { digits: 0n, places: 0 };
  let unpriced = false;
  const charge = (count: number, price: string | undefined, each: number): void => {
    if (count === 0) return;
    if (price === undefined) unpriced = true;
    else {
      const { digits, places } = decimal(price);
      total = sum(total, { digits: digits * BigInt(count), places: places + each });
    }
  };
  const MILLION_PLACES = 6;
  for (const [name, priceName] of CLASSES) charge(used[name], priceOf(priceName), MILLION_PLACES);
  charge(used.searches, stated("web_search"), 0);
  charge(stated("per_request") === undefined ? 0 : 1, stated("per_request"), 0);
  return { nanoUsd: halfUp(total), unpriced };
}

/** To whole nano-dollars, half up. */
function halfUp({ digits, places }: Decimal): bigint {
  const NANO_PLACES = 9;
  if (places <= NANO_PLACES) return digits * 10n ** BigInt(NANO_PLACES - places);
  const text = digits.toString().padStart(places + 1, "0");
  const kept = text.slice(0, text.length - (places - NANO_PLACES));
  return BigInt(kept) + (text[kept.length]! >= "5" ? 1n : 0n);
}
