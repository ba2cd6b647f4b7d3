import assert from "node:assert/strict";
import { test } from "node:test";
import { compilePriceBook, type PriceIndex, ratesAt } from "#libs/money/index.ts";
import { BackendRates } from "./backend-rates.ts";
import { backend, book, config, model } from "./fixture.ts";
import { compileSnapshot, type PolicySnapshot } from "./snapshot.ts";

const NAMES = ["always", "rented", "tiered", "changing", "none"];

function priced(): { readonly snapshot: PolicySnapshot; readonly prices: PriceIndex } {
  const made = book({
    always: { input: 1, output: 2 },
    rented: { rent: 3 },
    tiered: { input: 4, output: 5 },
    changing: { input: 6, output: 7 },
  });
  const [, , tiered, changing] = made.lines;
  tiered!.tiers = [{ $typeName: "signalbox.ledger.v1.PriceTier", aboveTokens: 100, line: { ...changing!, inputPico: 9_000_000n } }];
  made.lines.push({ ...changing!, effectiveFromMs: 1_000, inputPico: 8_000_000n });
  const prices = compilePriceBook(made);
  const backends = NAMES.map((name) => backend(name));
  return { snapshot: compileSnapshot(config(backends, [model("m", NAMES)]), undefined, prices), prices };
}

test("rates are those of the price book whenever they are asked for, also when time goes back", () => {
  const { snapshot, prices } = priced();
  const rates = new BackendRates();
  for (const [wallMs, tokens] of [
    [500, 50],
    [2_000, 50],
    [2_000, 500],
    [500, 500],
    [1_000, 0],
  ] as const) {
    rates.moveTo(snapshot, wallMs);
    const seen = NAMES.map((_, index) => rates.of(index, tokens));
    assert.deepEqual(
      seen,
      NAMES.map((name) => ratesAt(prices, name, wallMs, tokens, "")?.rates),
    );
  }
  assert.equal(rates.of(4, 1), undefined);
});

test("with another snapshot in force its prices are", () => {
  const { snapshot } = priced();
  const rates = new BackendRates();
  rates.moveTo(snapshot, 1);
  const cheaper = compilePriceBook(book({ always: { input: 0.5, output: 1 } }));
  rates.moveTo({ ...snapshot, prices: cheaper }, 2);
  assert.deepEqual([rates.of(0, 1)?.input, rates.of(1, 1)], [500_000, undefined]);
});
