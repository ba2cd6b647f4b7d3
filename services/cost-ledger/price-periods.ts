import type { PriceIndex } from "#libs/money/index.ts";
import { ratesAt } from "#libs/money/index.ts";

/** A price book as stored: in force from then until the next one. */
export interface StoredPricePeriod {
  readonly sinceMs: number;
  readonly version: string;
}

/** A compiled price book and since when it has been in force, ms since the epoch. */
export interface PricePeriod {
  readonly sinceMs: number;
  readonly index: PriceIndex;
}

/** Fills the empty table from the books that were kept before there were periods; both databases understand it. */
export const PRICE_PERIODS_FILL = "INSERT INTO price_periods SELECT first_seen_ms, version FROM price_books";

/** Notes a version from a moment on, unless it is the last one noted. */
export function notePeriodSql(since: string, version: string): string {
  return `INSERT INTO price_periods SELECT ${since}, ${version}
    WHERE COALESCE((SELECT version FROM price_periods ORDER BY since_ms DESC, version LIMIT 1), '') <> ${version} ON CONFLICT DO NOTHING`;
}

/** The periods that reach beyond a moment, oldest first. */
export function periodsSql(from: string): string {
  return `SELECT since_ms, version FROM price_periods
    WHERE since_ms >= COALESCE((SELECT MAX(since_ms) FROM price_periods WHERE since_ms <= ${from}), 0) ORDER BY since_ms, version`;
}

/**
 * Rent of a backend per hour at a moment, nano-USD, 0 for one without: by the book in force then, so that a price loaded later never
 * reaches back. Before the first period its book counts.
 */
export function rentAt(periods: readonly PricePeriod[], backend: string, atMs: number): bigint {
  const period = periods.findLast(({ sinceMs }) => sinceMs <= atMs) ?? periods[0];
  return (period && ratesAt(period.index, backend, atMs, 0, "")?.rates.perHourNano) ?? 0n;
}
