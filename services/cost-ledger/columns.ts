import type { EntryRow } from "./entries/index.ts";
import { outcomeWord } from "#libs/money/index.ts";

/** A value both databases take. */
export type ColumnValue = string | number | bigint | Uint8Array;

interface Column {
  readonly name: string;
  readonly sqlite: string;
  readonly postgres: string;
  readonly value: (row: EntryRow) => ColumnValue;
}

function column(name: string, type: keyof typeof TYPES, value: Column["value"]): Column {
  return { name, ...TYPES[type], value };
}

const TYPES = {
  text: { sqlite: "TEXT NOT NULL", postgres: "text" },
  json: { sqlite: "TEXT NOT NULL", postgres: "jsonb" },
  small: { sqlite: "INTEGER NOT NULL", postgres: "int2" },
  integer: { sqlite: "INTEGER NOT NULL", postgres: "int8" },
  real: { sqlite: "REAL NOT NULL", postgres: "float8" },
  bytes: { sqlite: "BLOB NOT NULL", postgres: "bytea" },
} as const;

function signed(row: EntryRow, count: number | undefined): number {
  return row.sign * (count ?? 0);
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
  column("sequence", "integer", (row) => row.sequence),
  column("attempt_id", "text", (row) => row.attemptId),
  column("part", "small", (row) => row.part),
  column("sign", "small", (row) => row.sign),
  column("kind", "small", (row) => row.decoded.kind),
  column("booked_at_ms", "integer", (row) => Math.floor(row.bookedAtMs)),
  column("started_at_us", "integer", (row) => row.decoded.startedAtUs),
  column("request_id", "text", (row) => row.decoded.requestId),
  column("attempt", "integer", (row) => row.decoded.attempt),
  column("tenant", "text", (row) => row.decoded.tenant),
  column("team", "text", (row) => row.decoded.team),
  column("key_id", "text", (row) => row.decoded.keyId),
  column("tags", "json", (row) => JSON.stringify(row.decoded.tags)),
  column("model", "text", (row) => row.decoded.model),
  column("backend", "text", (row) => row.decoded.backend),
  column("provider", "text", (row) => row.decoded.provider),
  column("upstream_model", "text", (row) => row.decoded.upstreamModel),
  column("experiment", "text", (row) => row.decoded.experiment),
  column("arm", "text", (row) => row.decoded.arm),
  column("outcome", "text", (row) => outcomeWord(row.decoded)),
  column("purpose", "text", (row) => row.decoded.purpose),
  column("estimated", "small", (row) => (row.decoded.estimated ? 1 : 0)),
  column("unpriced", "small", (row) => (row.decoded.unpriced ? 1 : 0)),
  column("price_version", "text", (row) => row.decoded.priceVersion),
  column("price_grade", "text", (row) => row.decoded.priceGrade),
  column("input_tokens", "integer", (row) => row.sign * promptTokens(row)),
  column("cache_read_tokens", "integer", (row) => signed(row, row.decoded.usage?.cacheReadTokens)),
  column("output_tokens", "integer", (row) =>
    signed(row, (row.decoded.usage?.outputTokens ?? 0) + (row.decoded.usage?.audioOutputTokens ?? 0)),
  ),
  column("reasoning_tokens", "integer", (row) => signed(row, row.decoded.usage?.reasoningTokens)),
  column("cost_nano_usd", "integer", (row) => row.decoded.costNanoUsd),
  column("waste_nano_usd", "integer", (row) => (row.decoded.purpose.startsWith("waste") ? row.decoded.costNanoUsd : 0n)),
  column("baseline_nano_usd", "integer", (row) => row.baselineNanoUsd),
  column("duration_ms", "real", (row) => row.decoded.durationMs),
  column("ttft_ms", "real", (row) => row.decoded.ttftMs),
  column("record", "bytes", (row) => row.record),
  column("hash", "bytes", (row) => row.hash),
];
