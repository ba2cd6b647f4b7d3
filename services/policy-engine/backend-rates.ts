import { constantRates, EMPTY_PRICE_INDEX, type PriceIndex, type PriceLines, type Rates, ratesIn } from "#libs/money/index.ts";
import type { PolicySnapshot } from "./snapshot.ts";

/** Rates of a snapshot's backends by their index, looked up once where neither time nor prompt changes them. */
export class BackendRates {
  #snapshot: PolicySnapshot | undefined;
  #prices: PriceIndex = EMPTY_PRICE_INDEX;
  #lines: readonly (PriceLines | undefined)[] = [];
  #constant: readonly (Rates | undefined)[] = [];
  #fromMs = 0;
  #nowMs = 0;

  /** What is asked next is asked of this snapshot at this time, ms since the epoch; earlier than before only when decisions are replayed. */
  moveTo(snapshot: PolicySnapshot, wallMs: number): void {
    this.#nowMs = wallMs;
    if (snapshot === this.#snapshot && wallMs >= this.#fromMs) return;
    const { prices } = snapshot;
    this.#snapshot = snapshot;
    this.#prices = prices;
    this.#fromMs = wallMs;
    this.#lines = snapshot.backends.map(({ name }) => prices.lines.get(name));
    this.#constant = this.#lines.map((lines) => (lines === undefined ? undefined : constantRates(prices, lines, wallMs)));
  }

  /** The rates for a prompt of so many tokens in all; undefined = no price. */
  of(index: number, promptTokens: number): Rates | undefined {
    const constant = this.#constant[index];
    if (constant !== undefined) return constant;
    const lines = this.#lines[index];
    return lines === undefined ? undefined : ratesIn(this.#prices, lines, this.#nowMs, promptTokens);
  }
}
