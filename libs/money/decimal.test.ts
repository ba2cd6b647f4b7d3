import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatAmount, formatUsd, parseDecimal, parsePerMillion, parsePerToken, parseUsd, roundHalfUp } from "./decimal.ts";

test("dollars are read exactly", () => {
  assert.equal(parseUsd("$0.25"), 250_000_000n);
  assert.equal(parseUsd("1,234.5"), 1_234_500_000_000n);
  assert.equal(parseUsd(0.1), 100_000_000n);
  assert.equal(parseUsd("-$3"), -3_000_000_000n);
  assert.equal(parsePerMillion("$0.25"), 250_000n);
  assert.equal(parsePerMillion(0.000001), 1n);
  assert.equal(parsePerToken(2.5e-7), 250_000n);
  assert.equal(parsePerToken(2.5e-7 - Number.EPSILON * 2e-7), 250_000n, "a binary fraction is rounded to the pico-dollar");
});

test("what is not an amount, or needs more digits than there are, is refused", () => {
  for (const text of ["", "$", "1.2.3", "abc", "1e", "0x10", "--1", "NaN"])
    assert.throws(() => parseUsd(text), { name: "SignalboxError" }, text);
  assert.throws(() => parseUsd("0.0000000001"), /too many decimals/);
  assert.throws(() => parsePerToken(-1));
  assert.throws(() => parsePerToken(Number.NaN));
});

test("an amount survives being printed and read", () => {
  assert.equal(formatUsd(250_000_000n), "$0.25");
  assert.equal(formatUsd(1_234n), "$0.000001234");
  assert.equal(formatUsd(-3_000_000_000n), "-$3.00");
  assert.equal(formatUsd(0n), "$0.00");
  fc.assert(fc.property(fc.bigInt({ min: -(10n ** 18n), max: 10n ** 18n }), (nano) => parseUsd(formatUsd(nano)) === nano));
  fc.assert(fc.property(fc.bigInt({ min: -(10n ** 18n), max: 10n ** 18n }), (nano) => parseDecimal(formatAmount(nano), 9) === nano));
});

test("halves are rounded up, towards positive infinity", () => {
  assert.equal(roundHalfUp(1_499n, 1000n), 1n);
  assert.equal(roundHalfUp(1_500n, 1000n), 2n);
  assert.equal(roundHalfUp(-1_500n, 1000n), -1n);
  assert.equal(roundHalfUp(-1_501n, 1000n), -2n);
  fc.assert(
    fc.property(fc.integer({ min: -1e12, max: 1e12 }), fc.integer({ min: 1, max: 1e6 }), (value, divisor) => {
      const rounded = Number(roundHalfUp(BigInt(value), BigInt(divisor)));
      return 2 * rounded * divisor - divisor <= 2 * value && 2 * value < 2 * rounded * divisor + divisor;
    }),
  );
});
