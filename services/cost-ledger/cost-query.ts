import { create } from "@bufbuild/protobuf";
import { CostRowSchema, type CostRow } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { CostQuery } from "#libs/peers/index.ts";
import { COST_ROWS_DEFAULT } from "./store.ts";

/** How a database spells what differs. `parameter` gets the 1-based number of a bound value. */
export interface SqlDialect {
  readonly parameter: (number: number) => string;
  readonly day: string;
  readonly hour: string;
  /** A tag's value as text, '' when absent; `key` is a parameter. */
  readonly tag: (key: string) => string;
  /** Turns a tag's name into the value bound for `key`. */
  readonly tagKey: (name: string) => string;
}

/** A query with its values. */
export interface Sql {
  readonly text: string;
  readonly values: readonly (string | bigint | number)[];
}

const COLUMN_DIMENSIONS: ReadonlySet<string> = new Set(["tenant", "team", "key_id", "model", "backend", "provider", "experiment", "arm"]);
const TAG_PREFIX = "tag:";
/** Dimensions of one query. */
const DIMENSIONS_MAX = 8;
/** Rows of one answer. */
const ROWS_MAX = 100_000;

/** Builds the sums of a query. Names are checked against a list and values are bound: nothing of the caller's becomes SQL. */
export function costSql(query: CostQuery, dialect: SqlDialect): Sql {
  const values: (string | bigint | number)[] = [];
  const bind = (value: string | bigint | number): string => dialect.parameter(values.push(value));
  if (query.by.length > DIMENSIONS_MAX)
    throw new SignalboxError("REQUEST_MALFORMED", `at most ${DIMENSIONS_MAX} dimensions`, { param: "by" });
  const groups = query.by.map((name) => dimension(name, dialect, bind));
  const where: string[] = [];
  if (query.sinceMs !== undefined) where.push(`started_at_us >= ${bind(microseconds(query.sinceMs))}`);
  if (query.untilMs !== undefined) where.push(`started_at_us < ${bind(microseconds(query.untilMs))}`);
  const limit = Math.min(ROWS_MAX, query.limit ?? COST_ROWS_DEFAULT);
  const text = [
    `SELECT ${[...groups.map((group, index) => `${group} AS g${index}`), ...SUMS].join(", ")}`,
    "FROM entries",
    where.length > 0 ? `WHERE ${where.join(" AND ")}` : "",
    groups.length > 0 ? `GROUP BY ${groups.map((_, index) => `g${index}`).join(", ")}` : "",
    `ORDER BY cost_nano_usd DESC${groups.map((_, index) => `, g${index}`).join("")} LIMIT ${limit}`,
  ];
  return { text: text.filter((line) => line !== "").join(" "), values };
}

const SUMS = [
  "COALESCE(SUM(CASE WHEN attempt = 1 THEN sign ELSE 0 END), 0) AS requests",
  "COALESCE(SUM(sign), 0) AS attempts",
  "COALESCE(SUM(input_tokens), 0) AS input_tokens",
  "COALESCE(SUM(output_tokens), 0) AS output_tokens",
  "COALESCE(SUM(cost_nano_usd), 0) AS cost_nano_usd",
  "COALESCE(SUM(waste_nano_usd), 0) AS waste_nano_usd",
  "COALESCE(SUM(baseline_nano_usd), 0) AS baseline_nano_usd",
];

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
  });
}

function dimension(name: string, dialect: SqlDialect, bind: (value: string) => string): string {
  if (COLUMN_DIMENSIONS.has(name)) return name;
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
