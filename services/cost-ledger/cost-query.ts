import { create } from "@bufbuild/protobuf";
import { CostRowSchema, type CostRow } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { CostQuery } from "#libs/peers/index.ts";
import { DAY_HOURS, ENTRIES_AS_ROLLUPS, ROLLUP_COLUMNS, ROLLUP_DIMENSIONS, ROLLUP_HOUR_US, ROLLUP_SUMS, ROLLUP_TABLES } from "./rollups.ts";
import { COST_ROWS_DEFAULT } from "./store.ts";

/** How a database spells what differs. `parameter` gets the 1-based number of a bound value. */
export interface SqlDialect {
  readonly parameter: (number: number) => string;
  /** The day, the hour and the month, of the column `hour` (hours since the epoch) as ISO text. */
  readonly day: string;
  readonly hour: string;
  readonly month: string;
  /** A tag's value as text, '' when absent; `key` is a parameter. */
  readonly tag: (key: string) => string;
  /** All tags as JSON text. */
  readonly tags: string;
  /** Turns a tag's name into the value bound for `key`. */
  readonly tagKey: (name: string) => string;
}

/** A query with its values. */
export interface Sql {
  readonly text: string;
  readonly values: readonly (string | bigint | number)[];
}

type Bind = (value: string | bigint | number) => string;

const COLUMN_DIMENSIONS: ReadonlySet<string> = new Set(ROLLUP_DIMENSIONS);
/** What entries have and roll-ups leave out: what kind of waste an attempt was, and how it ended. */
const ENTRY_DIMENSIONS: ReadonlySet<string> = new Set(["purpose", "outcome"]);
/** Shorter words for a dimension. */
const OTHER_NAMES: Readonly<Record<string, string>> = { key: "key_id" };
const ALL_TAGS = "tags";
const TAG_PREFIX = "tag:";
/** Dimensions of one query. */
const DIMENSIONS_MAX = 8;
/** Rows of one answer. */
const ROWS_MAX = 100_000;
const HOUR_MS = ROLLUP_HOUR_US / 1000;

/**
 * Builds the sums of a query: whole days and hours from the roll-ups, what is cut off at the period's ends from the entries,
 * and everything from the entries where tags, a purpose, an outcome or what has no price is asked for. Names are checked against a list and values are bound: nothing of
 * the caller's becomes SQL.
 */
export function costSql(query: CostQuery, dialect: SqlDialect): Sql {
  const values: (string | bigint | number)[] = [];
  const bind: Bind = (value) => dialect.parameter(values.push(value));
  if (query.by.length > DIMENSIONS_MAX)
    throw new SignalboxError("REQUEST_MALFORMED", `at most ${DIMENSIONS_MAX} dimensions`, { param: "by" });
  const groups = query.by.map((name) => dimension(name, dialect, bind));
  const limit = Math.min(ROWS_MAX, query.limit ?? COST_ROWS_DEFAULT);
  const text = [
    `SELECT ${[...groups.map((group, index) => `${group} AS g${index}`), ...SUMS].join(", ")}`,
    `FROM (${query.unpricedOnly === true || query.by.some(isOfEntries) ? fromEntries(query, bind) : fromRollups(query, bind)}) AS rows`,
    groups.length > 0 ? `GROUP BY ${groups.map((_, index) => `g${index}`).join(", ")}` : "",
    `ORDER BY cost_nano_usd DESC${groups.map((_, index) => `, g${index}`).join("")} LIMIT ${limit}`,
  ];
  return { text: text.filter((line) => line !== "").join(" "), values };
}

const SUMS = ROLLUP_SUMS.map(({ name }) => `COALESCE(SUM(${name}), 0) AS ${name}`);

function fromEntries({ sinceMs, untilMs, unpricedOnly }: CostQuery, bind: Bind): string {
  const select = ENTRIES_AS_ROLLUPS.replace(" FROM entries", ", tags, purpose, outcome FROM entries");
  const where = period(sinceMs, untilMs, bind);
  if (unpricedOnly !== true) return `${select}${where}`;
  return `${select}${where === "" ? " WHERE" : `${where} AND`} unpriced = 1`;
}

function fromRollups({ by, sinceMs, untilMs }: CostQuery, bind: Bind): string {
  const firstHour = sinceMs === undefined ? undefined : Math.ceil(sinceMs / HOUR_MS);
  const endHour = untilMs === undefined ? undefined : Math.floor(untilMs / HOUR_MS);
  // A period without a whole hour in it.
  if (firstHour !== undefined && endHour !== undefined && firstHour >= endHour) {
    return `${ENTRIES_AS_ROLLUPS}${period(sinceMs, untilMs, bind)}`;
  }
  const parts = by.includes("hour") ? [rollupsOf("hours", firstHour, endHour, bind)] : wholeHours(firstHour, endHour, bind);
  if (sinceMs !== undefined && sinceMs % HOUR_MS !== 0) parts.push(`${ENTRIES_AS_ROLLUPS}${period(sinceMs, firstHour! * HOUR_MS, bind)}`);
  if (untilMs !== undefined && untilMs % HOUR_MS !== 0) parts.push(`${ENTRIES_AS_ROLLUPS}${period(endHour! * HOUR_MS, untilMs, bind)}`);
  return parts.join(" UNION ALL ");
}

/** Hours [first, end): whole days from the days, what is cut off at the ends from the hours. */
function wholeHours(first: number | undefined, end: number | undefined, bind: Bind): string[] {
  const firstDay = first === undefined ? undefined : Math.ceil(first / DAY_HOURS) * DAY_HOURS;
  const endDay = end === undefined ? undefined : Math.floor(end / DAY_HOURS) * DAY_HOURS;
  if (firstDay !== undefined && endDay !== undefined && firstDay >= endDay) return [rollupsOf("hours", first, end, bind)];
  const parts = [rollupsOf("days", firstDay, endDay, bind)];
  if (first !== firstDay) parts.push(rollupsOf("hours", first, firstDay, bind));
  if (end !== endDay) parts.push(rollupsOf("hours", endDay, end, bind));
  return parts;
}

function rollupsOf(table: keyof typeof ROLLUP_TABLES, first: number | undefined, end: number | undefined, bind: Bind): string {
  const where: string[] = [];
  if (first !== undefined) where.push(`hour >= ${bind(first)}`);
  if (end !== undefined) where.push(`hour < ${bind(end)}`);
  return `SELECT ${ROLLUP_COLUMNS.join(", ")} FROM ${ROLLUP_TABLES[table]}${where.length > 0 ? ` WHERE ${where.join(" AND ")}` : ""}`;
}

function period(sinceMs: number | undefined, untilMs: number | undefined, bind: Bind): string {
  const where: string[] = [];
  if (sinceMs !== undefined) where.push(`started_at_us >= ${bind(microseconds(sinceMs))}`);
  if (untilMs !== undefined) where.push(`started_at_us < ${bind(microseconds(untilMs))}`);
  return where.length > 0 ? ` WHERE ${where.join(" AND ")}` : "";
}

/** A row of either database as the message; sums arrive as bigint, text or number. */
export function costRow(row: Readonly<Record<string, unknown>>, groups: number): CostRow {
  const sum = (name: string): bigint => BigInt(row[name] as string | number | bigint);
  return create(CostRowSchema, {
    group: Array.from({ length: groups }, (_, index) => (row[`g${index}`] ?? "") as string),
    requests: sum("requests"),
    attempts: sum("attempts"),
    inputTokens: sum("input_tokens"),
    outputTokens: sum("output_tokens"),
    costNanoUsd: sum("cost_nano_usd"),
    wasteNanoUsd: sum("waste_nano_usd"),
    baselineNanoUsd: sum("baseline_nano_usd"),
    idleNanoUsd: sum("idle_nano_usd"),
  });
}

function isOfEntries(name: string): boolean {
  return ENTRY_DIMENSIONS.has(name) || name === ALL_TAGS || name.startsWith(TAG_PREFIX);
}

function dimension(given: string, dialect: SqlDialect, bind: Bind): string {
  const name = Object.hasOwn(OTHER_NAMES, given) ? OTHER_NAMES[given]! : given;
  if (COLUMN_DIMENSIONS.has(name) || ENTRY_DIMENSIONS.has(name)) return name;
  if (name === ALL_TAGS) return dialect.tags;
  if (name === "month") return dialect.month;
  if (name === "day") return dialect.day;
  if (name === "hour") return dialect.hour;
  if (name.startsWith(TAG_PREFIX) && name.length > TAG_PREFIX.length)
    return dialect.tag(bind(dialect.tagKey(name.slice(TAG_PREFIX.length))));
  throw new SignalboxError("REQUEST_MALFORMED", `unknown dimension ${JSON.stringify(name)}`, { param: "by" });
}

/** Microseconds of a time in ms, for the column. */
export function microseconds(atMs: number): bigint {
  return BigInt(Math.round(atMs * 1000));
}
