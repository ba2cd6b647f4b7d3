import type { EntryRow } from "./entries/index.ts";
import { COLUMNS } from "./columns.ts";

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

/** Where roll-ups are kept: by the hour, and the same by the whole UTC day, so that a month is read in a moment. */
export const ROLLUP_TABLES = { hours: "rollups", days: "rollup_days" } as const;

/** Microseconds of the unit roll-ups are kept in. */
export const ROLLUP_HOUR_US = 3_600_000_000;
const HOUR_US = BigInt(ROLLUP_HOUR_US);
/** Hours of a day: the unit of {@link ROLLUP_TABLES}.days. */
export const DAY_HOURS = 24;

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

const SUMMED = ROLLUP_SUMS.map(({ name }) => `SUM(${name})`).join(", ");

/** Fills the empty table of hours from the entries. */
export const ROLLUP_FILL = `INSERT INTO rollups SELECT hour, ${ROLLUP_DIMENSIONS.join(", ")}, ${SUMMED}
  FROM (${ENTRIES_AS_ROLLUPS}) AS e GROUP BY hour, ${ROLLUP_DIMENSIONS.join(", ")}`;

/** Fills the empty table of days from that of hours. */
export const ROLLUP_DAYS_FILL = `INSERT INTO rollup_days SELECT hour - hour % ${DAY_HOURS}, ${ROLLUP_DIMENSIONS.join(", ")}, ${SUMMED}
  FROM rollups GROUP BY hour - hour % ${DAY_HOURS}, ${ROLLUP_DIMENSIONS.join(", ")}`;

/** Finds what used something without a price in a moment: there is little of it, or much is wrong. Both databases understand it. */
export const UNPRICED_INDEX = "CREATE INDEX entries_unpriced ON entries (started_at_us) WHERE unpriced = 1";

/**
 * The ledger in figures, at a cost that does not grow with it: sequences have no gaps and rows never go, so the last one counts
 * them. Both databases understand it.
 */
export const TOTALS = `SELECT COALESCE((SELECT MAX(sequence) FROM entries), 0) AS entries,
  COALESCE((SELECT SUM(cost_nano_usd) FROM rollup_days), 0) AS cost,
  COALESCE((SELECT booked_at_ms FROM entries ORDER BY sequence DESC LIMIT 1), 0) AS last,
  (SELECT value FROM counters WHERE name = 'duplicates') AS duplicates`;

/** What to do when a row is there already: add. */
export function rollupAdd(table: string): string {
  const sums = ROLLUP_SUMS.map(({ name }) => `${name} = ${table}.${name} + excluded.${name}`);
  return `ON CONFLICT (hour, ${ROLLUP_DIMENSIONS.join(", ")}) DO UPDATE SET ${sums.join(", ")}`;
}

const VALUES = new Map(COLUMNS.map(({ name, value }) => [name, value]));
const DIMENSION_VALUES = ROLLUP_DIMENSIONS.map((name) => VALUES.get(name)! as (row: EntryRow) => string);
const INPUT_TOKENS = VALUES.get("input_tokens")! as (row: EntryRow) => number;
const OUTPUT_TOKENS = VALUES.get("output_tokens")! as (row: EntryRow) => number;
const WASTE = VALUES.get("waste_nano_usd")! as (row: EntryRow) => bigint;
/** Joins names to a key: no name holds it, because {@link COLUMNS} let no NUL through. */
const SEPARATOR = "\0";

/** Adds up the entries of a batch; an entry that arrives late goes to the hour its attempt began in, a reversal takes away there. */
export function rollUp(rows: readonly EntryRow[]): readonly RollupRow[] {
  const groups = new Map<string, RollupRow>();
  let latest: RollupRow | undefined;
  for (const row of rows) {
    const hour = hourOf(row);
    if (latest !== undefined && isOf(latest, hour, row)) {
      addTo(latest.sums, row);
      continue;
    }
    let key = String(hour);
    for (const value of DIMENSION_VALUES) key += SEPARATOR + value(row);
    let group = groups.get(key);
    if (group === undefined) {
      groups.set(key, (group = { hour, dimensions: DIMENSION_VALUES.map((value) => value(row)), sums: ROLLUP_SUMS.map(() => 0n) }));
    }
    addTo(group.sums, row);
    latest = group;
  }
  return [...groups.values()];
}

/** Whether a row belongs to a group: rows that come together are often of one kind, and comparing costs less than a key. */
function isOf(group: RollupRow, hour: number, row: EntryRow): boolean {
  if (group.hour !== hour) return false;
  for (let at = 0; at < DIMENSION_VALUES.length; at++) if (DIMENSION_VALUES[at]!(row) !== group.dimensions[at]) return false;
  return true;
}

/** The same sums, by whole days: what a report over a month reads. The hour is the day's first. */
export function rollUpDays(hours: readonly RollupRow[]): readonly RollupRow[] {
  const groups = new Map<string, RollupRow>();
  for (const { hour, dimensions, sums } of hours) {
    const first = hour - (hour % DAY_HOURS);
    const key = `${first}${SEPARATOR}${dimensions.join(SEPARATOR)}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { hour: first, dimensions, sums: [...sums] });
    else for (const [index, amount] of sums.entries()) group.sums[index]! += amount;
  }
  return [...groups.values()];
}

function hourOf(row: EntryRow): number {
  return Number(row.decoded.startedAtUs / HOUR_US);
}

/** In the order of {@link ROLLUP_SUMS}. */
function addTo(sums: bigint[], row: EntryRow): void {
  const { attempt, costNanoUsd } = row.decoded;
  const isIdle = row.decoded.purpose === "idle";
  const add = (index: number, amount: number | bigint): void => {
    if (amount !== 0 && amount !== 0n) sums[index]! += BigInt(amount);
  };
  add(0, attempt === 1 ? row.sign : 0);
  add(1, isIdle ? 0 : row.sign);
  add(2, INPUT_TOKENS(row));
  add(3, OUTPUT_TOKENS(row));
  add(4, costNanoUsd);
  add(5, WASTE(row));
  add(6, row.baselineNanoUsd);
  add(7, isIdle ? costNanoUsd : 0n);
  add(8, isIdle ? 1 : 0);
}
