/** How long a budget's money lasts. */
export type BudgetPeriod = "day" | "month" | "total";

/** The stretch of time one amount is for, in UTC. */
export interface BudgetWindow {
  /** Names the window: what was granted for one is nothing in another. */
  readonly id: string;
  /** Start, ms since the epoch; -Infinity for `total`. */
  readonly fromMs: number;
  /** End (exclusive), ms since the epoch; Infinity for `total`. What a refused caller is told. */
  readonly untilMs: number;
}

/** The window of `atMs`. */
export function windowAt(period: BudgetPeriod, atMs: number): BudgetWindow {
  const date = new Date(atMs);
  const [year, month, day] = [date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()];
  switch (period) {
    case "total":
      return { id: "total", fromMs: Number.NEGATIVE_INFINITY, untilMs: Number.POSITIVE_INFINITY };
    case "month":
      return {
        id: new Date(Date.UTC(year, month)).toISOString().slice(0, 7),
        fromMs: Date.UTC(year, month),
        untilMs: Date.UTC(year, month + 1),
      };
    case "day":
      return {
        id: new Date(Date.UTC(year, month, day)).toISOString().slice(0, 10),
        fromMs: Date.UTC(year, month, day),
        untilMs: Date.UTC(year, month, day + 1),
      };
  }
}
