import { outcomeWord } from "#libs/money/index.ts";
import type { EntryRow } from "./entries/index.ts";
import { withoutNul, type BinaryValues } from "./postgres-binary.ts";

/** A value both databases take. */
export type ColumnValue = string | number | bigint | Uint8Array;

interface Column {
  readonly name: string;
  readonly sqlite: string;
  readonly postgres: string;
  readonly value: (row: EntryRow) => ColumnValue;
  /** Appends the value in PostgreSQL's binary format. */
  readonly write: (values: BinaryValues, row: EntryRow) => void;
}

interface ColumnType<T extends ColumnValue> {
  readonly sqlite: string;
  readonly postgres: string;
  readonly write: (values: BinaryValues, value: T) => void;
  /** What no database takes is replaced: one such entry would stop all that come behind it. The record itself stays as it is. */
  readonly clean?: (value: T) => T;
}

function column<T extends ColumnValue>(name: string, type: ColumnType<T>, raw: (row: EntryRow) => T): Column {
  const { sqlite, postgres, clean, write } = type;
  const value = clean === undefined ? raw : cleaned(raw, clean);
  return { name, sqlite, postgres, value, write: (values, row) => write(values, value(row)) };
}

/** Most columns hold what they held in the row before: that is not looked through again. */
function cleaned<T>(raw: (row: EntryRow) => T, clean: (value: T) => T): (row: EntryRow) => T {
  let before: T | undefined;
  let kept: T | undefined;
  return (row) => {
    const value = raw(row);
    if (value === before) return kept as T;
    before = value;
    return (kept = clean(value));
  };
}

const TEXT: ColumnType<string> = {
  sqlite: "TEXT NOT NULL",
  postgres: "text",
  write: (values, value) => values.text(value),
  clean: withoutNul,
};
const JSON_TEXT: ColumnType<string> = {
  sqlite: "TEXT NOT NULL",
  postgres: "jsonb",
  write: (values, value) => values.jsonb(value),
};
const SMALL: ColumnType<number> = { sqlite: "INTEGER NOT NULL", postgres: "int2", write: (values, value) => values.int2(value) };
const INTEGER: ColumnType<number | bigint> = {
  sqlite: "INTEGER NOT NULL",
  postgres: "int8",
  write: (values, value) => values.int8(value),
};
/** SQLite takes what is not a number for NULL. */
const REAL: ColumnType<number> = {
  sqlite: "REAL NOT NULL",
  postgres: "float8",
  write: (values, value) => values.float8(value),
  clean: (value) => (Number.isFinite(value) ? value : 0),
};
const BYTES: ColumnType<Uint8Array> = { sqlite: "BLOB NOT NULL", postgres: "bytea", write: (values, value) => values.bytea(value) };

function signed(row: EntryRow, count: number | undefined): number {
  return row.sign * (count ?? 0);
}

function tagsJson(tags: Readonly<Record<string, string>>): string {
  const entries = Object.entries(tags);
  if (entries.length === 0) return "{}";
  if (!entries.some(([name, value]) => name.includes("\0") || value.includes("\0"))) return JSON.stringify(tags);
  return JSON.stringify(Object.fromEntries(entries.map(([name, value]) => [withoutNul(name), withoutNul(value)])));
}

/** Prompt tokens of all classes. */
function promptTokens(row: EntryRow): number {
  const usage = row.decoded.usage;
  if (usage === undefined) return 0;
  const cached = usage.cacheReadTokens + usage.cacheWriteTokens + usage.cacheWrite1hTokens;
  return usage.inputTokens + cached + usage.audioInputTokens + usage.imageInputTokens;
}

/** Columns of `entries`, in order. Those that repeat the record are there for queries; `record` is what was booked, `hash` chains it. */
export const COLUMNS: readonly Column[] = [
  column("sequence", INTEGER, (row) => row.sequence),
  column("attempt_id", TEXT, (row) => row.attemptId),
  column("part", SMALL, (row) => row.part),
  column("sign", SMALL, (row) => row.sign),
  column("kind", SMALL, (row) => row.decoded.kind),
  column("booked_at_ms", INTEGER, (row) => Math.floor(row.bookedAtMs)),
  column("started_at_us", INTEGER, (row) => row.decoded.startedAtUs),
  column("request_id", TEXT, (row) => row.decoded.requestId),
  column("attempt", INTEGER, (row) => row.decoded.attempt),
  column("tenant", TEXT, (row) => row.decoded.tenant),
  column("team", TEXT, (row) => row.decoded.team),
  column("key_id", TEXT, (row) => row.decoded.keyId),
  column("tags", JSON_TEXT, (row) => tagsJson(row.decoded.tags)),
  column("model", TEXT, (row) => row.decoded.model),
  column("backend", TEXT, (row) => row.decoded.backend),
  column("provider", TEXT, (row) => row.decoded.provider),
  column("upstream_model", TEXT, (row) => row.decoded.upstreamModel),
  column("experiment", TEXT, (row) => row.decoded.experiment),
  column("arm", TEXT, (row) => row.decoded.arm),
  column("outcome", TEXT, (row) => outcomeWord(row.decoded)),
  column("purpose", TEXT, (row) => row.decoded.purpose),
  column("estimated", SMALL, (row) => (row.decoded.estimated ? 1 : 0)),
  column("unpriced", SMALL, (row) => (row.decoded.unpriced ? 1 : 0)),
  column("price_version", TEXT, (row) => row.decoded.priceVersion),
  column("price_grade", TEXT, (row) => row.decoded.priceGrade),
  column("input_tokens", INTEGER, (row) => row.sign * promptTokens(row)),
  column("cache_read_tokens", INTEGER, (row) => signed(row, row.decoded.usage?.cacheReadTokens)),
  column("output_tokens", INTEGER, (row) =>
    signed(row, (row.decoded.usage?.outputTokens ?? 0) + (row.decoded.usage?.audioOutputTokens ?? 0)),
  ),
  column("reasoning_tokens", INTEGER, (row) => signed(row, row.decoded.usage?.reasoningTokens)),
  column("cost_nano_usd", INTEGER, (row) => row.decoded.costNanoUsd),
  column("waste_nano_usd", INTEGER, (row) => (row.decoded.purpose.startsWith("waste") ? row.decoded.costNanoUsd : 0n)),
  column("baseline_nano_usd", INTEGER, (row) => row.baselineNanoUsd),
  column("duration_ms", REAL, (row) => row.decoded.durationMs),
  column("ttft_ms", REAL, (row) => row.decoded.ttftMs),
  column("record", BYTES, (row) => row.record),
  column("hash", BYTES, (row) => row.hash),
];
