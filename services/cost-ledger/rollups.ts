import type { EntryRow } from "./entries/index.ts";
import { COLUMNS, type ColumnValue } from "./columns.ts";

/** What roll-ups are grouped by, besides the hour. Tags are not: their values are the caller's, and a roll-up must stay small. */
export const ROLLUP_DIMENSIONS = ["tenant", "team", "key_id", "model", "backend", "provider", "experiment", "arm"] as const;

/** What roll-ups add up, and the same for one row of `entries` as SQL both databases understand. */
export const ROLLUP_SUMS = [
  { name: "requests", entry: "CASE WHEN attempt = 1 THEN sign ELSE 0 END" },
  { name: "attempts", entry: "CASE WHEN purpose = 'idle' THEN 0 ELSE sign END" },
  { name: "input_tokens", entry: "input_tokens" },
  { name: "output_tokens", entry: "output_tokens" },
  { name: "cost_nano_usd", entry: "cost_nano_usd" },
  { name: "waste_nano_usd", entry: "waste_nano_usd" },
  { name: "baseline_nano_usd", entry: "baseline_nano_usd" },
  { name: "idle_nano_usd", entry: "CASE WHEN purpose = 'idle' THEN cost_nano_usd ELSE 0 END" },
  { name: "idle_entries", entry: "CASE WHEN purpose = 'idle' THEN 1 ELSE 0 END" },
] as const;

/** Microseconds of the unit roll-ups are kept in. */
export const ROLLUP_HOUR_US = 3_600_000_000;

/** One roll-up row to be added to what the store has: dimensions in order, sums in order. */
export interface RollupRow {
  /** Hours since the epoch. */
  readonly hour: number;
  readonly dimensions: readonly string[];
  readonly sums: bigint[];
}

/** Columns of the table, in order: hour, dimensions, sums. */
export const ROLLUP_COLUMNS: readonly string[] = ["hour", ...ROLLUP_DIMENSIONS, ...ROLLUP_SUMS.map(({ name }) => name)];

/** Entries as roll-up rows, before grouping. */
export const ENTRIES_AS_ROLLUPS = `SELECT started_at_us / ${ROLLUP_HOUR_US} AS hour, ${ROLLUP_DIMENSIONS.join(", ")}, ${ROLLUP_SUMS.map(
  ({ name, entry }) => `${entry} AS ${name}`,
).join(", ")} FROM entries`;

/** Fills an empty table from the entries. */
export const ROLLUP_FILL = `INSERT INTO rollups SELECT hour, ${ROLLUP_DIMENSIONS.join(", ")}, ${ROLLUP_SUMS.map(({ name }) => `SUM(${name})`).join(", ")}
  FROM (${ENTRIES_AS_ROLLUPS}) AS e GROUP BY hour, ${ROLLUP_DIMENSIONS.join(", ")}`;

/** What to do when a row is there already: add. */
export const ROLLUP_ADD = `ON CONFLICT (hour, ${ROLLUP_DIMENSIONS.join(", ")}) DO UPDATE SET ${ROLLUP_SUMS.map(
  ({ name }) => `${name} = rollups.${name} + excluded.${name}`,
).join(", ")}`;

const VALUES = new Map(COLUMNS.map(({ name, value }) => [name, value]));

function valueOf(row: EntryRow, column: string): ColumnValue {
  return VALUES.get(column)!(row);
}

/** Adds up the entries of a batch; an entry that arrives late goes to the hour its attempt began in, a reversal takes away there. */
export function rollUp(rows: readonly EntryRow[]): readonly RollupRow[] {
  const groups = new Map<string, RollupRow>();
  for (const row of rows) {
    const hour = Number(row.decoded.startedAtUs / BigInt(ROLLUP_HOUR_US));
    const dimensions = ROLLUP_DIMENSIONS.map((name) => valueOf(row, name) as string);
    const key = JSON.stringify([hour, ...dimensions]);
    let group = groups.get(key);
    if (group === undefined) groups.set(key, (group = { hour, dimensions, sums: ROLLUP_SUMS.map(() => 0n) }));
    for (const [index, amount] of sumsOf(row).entries()) group.sums[index]! += amount;
  }
  return [...groups.values()];
}

function sumsOf(row: EntryRow): readonly bigint[] {
  const isIdle = row.decoded.purpose === "idle";
  const whole = (column: string): bigint => BigInt(valueOf(row, column) as number | bigint);
  return [
    row.decoded.attempt === 1 ? BigInt(row.sign) : 0n,
    isIdle ? 0n : BigInt(row.sign),
    whole("input_tokens"),
    whole("output_tokens"),
    whole("cost_nano_usd"),
    whole("waste_nano_usd"),
    row.baselineNanoUsd,
    isIdle ? row.decoded.costNanoUsd : 0n,
    isIdle ? 1n : 0n,
  ];
}
