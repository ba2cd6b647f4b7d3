import { SignalboxError } from "#libs/errors/index.ts";

/** Nano-USD in one dollar. */
export const NANO_PER_USD = 1_000_000_000n;
/** Pico-USD in one nano-USD: token prices are pico, sums are nano. */
export const PICO_PER_NANO = 1_000n;

const DECIMAL = /^(-?)\$?(\d[\d_,]*)?(?:\.(\d+))?(?:[eE]([+-]?\d{1,3}))?$/;

/**
 * An exact decimal as an integer of `10^-digits` units: `parseDecimal("$0.25", 9)` is 250000000n. A leading `$`, thousands
 * separators and an exponent are read. Throws REQUEST_MALFORMED on anything else, and when the value needs more digits.
 */
export function parseDecimal(text: string, digits: number): bigint {
  const match = DECIMAL.exec(text.trim());
  if (!match || (match[2] === undefined && match[3] === undefined)) {
    throw new SignalboxError("REQUEST_MALFORMED", `not an amount: ${JSON.stringify(text)}`);
  }
  const whole = (match[2] ?? "0").replace(/[_,]/g, "");
  const fraction = match[3] ?? "";
  const shift = digits - fraction.length + Number(match[4] ?? 0);
  let value = BigInt(whole + fraction);
  if (shift >= 0) value *= 10n ** BigInt(shift);
  else {
    const divisor = 10n ** BigInt(-shift);
    if (value % divisor !== 0n) throw new SignalboxError("REQUEST_MALFORMED", `too many decimals in an amount: ${JSON.stringify(text)}`);
    value /= divisor;
  }
  return match[1] === "-" ? -value : value;
}

/** Dollars to nano-USD, exactly: "$0.25" is 250000000n. Numbers are read by their shortest decimal form. Throws like {@link parseDecimal}. */
export function parseUsd(amount: string | number): bigint {
  return parseDecimal(String(amount), 9);
}

/** Dollars per million tokens to pico-USD per token, exactly: "$0.25" is 250000n. Throws like {@link parseDecimal}. */
export function parsePerMillion(amount: string | number): bigint {
  return parseDecimal(String(amount), 6);
}

/**
 * Dollars per million tokens of a catalogue to pico-USD per token: what lies below a pico-dollar (0.08333333333333334) is rounded
 * half-up. Throws on anything but a finite, non-negative number.
 */
export function parseCataloguePerMillion(amount: number): bigint {
  if (!Number.isFinite(amount) || amount < 0) throw new SignalboxError("REQUEST_MALFORMED", `not a price: ${amount}`);
  return roundHalfUp(parseDecimal(String(amount), 30), 10n ** 24n);
}

/**
 * Dollars per token to pico-USD per token. Catalogues print binary fractions (2.4999999999999997e-7), so what lies below
 * a pico-dollar is rounded half-up. Throws on anything but a finite, non-negative number.
 */
export function parsePerToken(amount: number): bigint {
  if (!Number.isFinite(amount) || amount < 0) throw new SignalboxError("REQUEST_MALFORMED", `not a price: ${amount}`);
  return roundHalfUp(parseDecimal(String(amount), 30), 10n ** 18n);
}

/** `value / divisor` rounded half-up (towards positive infinity on a tie); `divisor` > 0. */
export function roundHalfUp(value: bigint, divisor: bigint): bigint {
  const doubled = 2n * value + divisor;
  const quotient = doubled / (2n * divisor);
  return doubled < 0n && doubled % (2n * divisor) !== 0n ? quotient - 1n : quotient;
}

/** Nano-USD for people and headers: two decimals at least, nine at most, no trailing zeros beyond: `$0.25`, `$0.000001234`, `-$3.00`. */
export function formatUsd(nanoUsd: bigint): string {
  return (nanoUsd < 0n ? "-$" : "$") + formatAmount(nanoUsd < 0n ? -nanoUsd : nanoUsd);
}

/** Nano-USD as a plain decimal without the currency: `0.000001234`. For JSON fields named `cost_usd`. */
export function formatAmount(nanoUsd: bigint): string {
  const negative = nanoUsd < 0n;
  const text = (negative ? -nanoUsd : nanoUsd).toString().padStart(10, "0");
  const fraction = text.slice(-9);
  let end = 9;
  while (end > 2 && fraction.charCodeAt(end - 1) === 48) end--;
  return `${negative ? "-" : ""}${text.slice(0, -9)}.${fraction.slice(0, end)}`;
}
