import { create } from "@bufbuild/protobuf";
import { UsageSchema, type Usage } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { InvoiceLineSchema, type InvoiceLine } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { parseDecimal } from "./decimal.ts";

/** Lines of one invoice: a month of a busy installation is split by its provider too. */
const LINES_MAX = 2_000_000;

/** Names providers give the columns we need, ours first. */
const NAMES = {
  attempt: ["attempt_id", "client_request_id", "x_client_request_id", "custom_id"],
  response: ["response_id", "id", "request_id", "generation_id"],
  backend: ["backend"],
  nano: ["cost_nano_usd", "amount_nano_usd"],
  usd: ["cost_usd", "amount_usd", "cost", "amount", "billedcost", "billed_cost", "total_cost"],
  input: ["input_tokens", "uncached_input_tokens"],
  /** Includes what came from the cache, as OpenAI counts. */
  prompt: ["prompt_tokens"],
  cacheRead: ["cache_read_tokens", "cache_read_input_tokens", "cached_tokens", "input_cached_tokens"],
  cacheWrite: ["cache_write_tokens", "cache_creation_input_tokens"],
  cacheWrite1h: ["cache_write_1h_tokens"],
  output: ["output_tokens", "completion_tokens"],
  reasoning: ["reasoning_tokens"],
  stated: ["stated"],
} as const;

/**
 * Reads an invoice: the simulator's `/invoice` (a JSON array), a provider's JSON (an array, or an object with one under `data`,
 * `lines` or `items`), JSON lines, or CSV with a heading. A line needs an id (ours or the provider's) to be matched, and an amount or
 * tokens to be compared. Throws REQUEST_MALFORMED, naming the line.
 */
export function parseInvoice(text: string): InvoiceLine[] {
  const records = recordsOf(text.replace(/^\uFEFF/, ""));
  if (records.length > LINES_MAX) malformed(`the invoice has more than ${LINES_MAX} lines`);
  return records.map((record, index) => lineOf(record, index + 1));
}

type RawRecord = Readonly<Record<string, unknown>>;

function recordsOf(text: string): readonly RawRecord[] {
  const start = text.trimStart();
  if (start === "") return malformed("the invoice is empty");
  if (!start.startsWith("[") && !start.startsWith("{")) return csvRecords(text);
  try {
    return objectsOf(JSON.parse(text) as unknown);
  } catch (error) {
    if (error instanceof SignalboxError) throw error;
    return jsonLines(text);
  }
}

function jsonLines(text: string): readonly RawRecord[] {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  return lines.map((line, index) => {
    try {
      return asRecord(JSON.parse(line), index + 1);
    } catch (error) {
      if (error instanceof SignalboxError) throw error;
      return malformed(`line ${index + 1} of the invoice is not JSON`);
    }
  });
}

function objectsOf(value: unknown): readonly RawRecord[] {
  if (Array.isArray(value)) return value.map((item, index) => asRecord(item, index + 1));
  const holder = asRecord(value, 1);
  for (const name of ["data", "lines", "items"]) if (Array.isArray(holder[name])) return objectsOf(holder[name]);
  return [holder];
}

function asRecord(value: unknown, line: number): RawRecord {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return malformed(`line ${line} of the invoice is not an object`);
  return value as RawRecord;
}

function lineOf(record: RawRecord, line: number): InvoiceLine {
  const attemptId = textOf(record, NAMES.attempt);
  const responseId = textOf(record, NAMES.response);
  const cost = amountOf(record, line);
  const usage = usageOf(record, line);
  if (cost === undefined && usage === undefined) malformed(`line ${line} of the invoice has neither an amount nor tokens`);
  return create(InvoiceLineSchema, {
    attemptId,
    responseId,
    backend: textOf(record, NAMES.backend),
    unstated: `${(find(record, NAMES.stated) ?? true) as string | boolean}` === "false",
    ...(cost === undefined ? {} : { costNanoUsd: cost }),
    ...(usage === undefined ? {} : { usage }),
  });
}

function find(record: RawRecord, names: readonly string[]): unknown {
  for (const name of names) {
    const value = record[name];
    if (value !== undefined && value !== null && value !== "") return value;
  }
  return undefined;
}

function textOf(record: RawRecord, names: readonly string[]): string {
  const value = find(record, names);
  return typeof value === "string" || typeof value === "number" ? String(value) : "";
}

function amountOf(record: RawRecord, line: number): bigint | undefined {
  const nano = textOf(record, NAMES.nano);
  const usd = textOf(record, NAMES.usd);
  if (nano === "" && usd === "") return undefined;
  try {
    return nano === "" ? parseDecimal(usd, 9) : parseDecimal(nano, 0);
  } catch {
    return malformed(`line ${line} of the invoice: ${JSON.stringify(nano || usd)} is not an amount in whole nano-dollars`);
  }
}

function usageOf(record: RawRecord, line: number): Usage | undefined {
  const count = (names: readonly string[]): number | undefined => {
    const text = textOf(record, names);
    if (text === "") return undefined;
    if (!/^\d{1,10}$/.test(text)) return malformed(`line ${line} of the invoice: ${JSON.stringify(text)} is not a number of tokens`);
    return Number(text);
  };
  const prompt = count(NAMES.prompt);
  const cacheReadTokens = count(NAMES.cacheRead) ?? 0;
  const inputTokens = count(NAMES.input) ?? (prompt === undefined ? undefined : Math.max(0, prompt - cacheReadTokens));
  const outputTokens = count(NAMES.output);
  if (inputTokens === undefined && outputTokens === undefined) return undefined;
  return create(UsageSchema, {
    inputTokens: inputTokens ?? 0,
    cacheReadTokens,
    cacheWriteTokens: count(NAMES.cacheWrite) ?? 0,
    cacheWrite1hTokens: count(NAMES.cacheWrite1h) ?? 0,
    outputTokens: outputTokens ?? 0,
    reasoningTokens: count(NAMES.reasoning) ?? 0,
  });
}

/** CSV after RFC 4180: quoted fields may hold commas, line breaks and doubled quotes. Headings lose case, spaces become underscores. */
function csvRecords(text: string): readonly RawRecord[] {
  const [heading, ...rows] = csvRows(text);
  const names = (heading ?? []).map((name) =>
    name
      .trim()
      .toLowerCase()
      .replaceAll(/[\s-]+/g, "_"),
  );
  if (names.length < 2) return malformed("the invoice is neither JSON nor CSV with a heading");
  return rows.map((row) => Object.fromEntries(names.map((name, index) => [name, (row[index] ?? "").trim()])));
}

function csvRows(text: string): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  const field = /("(?:[^"]|"")*"|[^",\r\n]*)(,|\r?\n|\r|$)/y;
  for (;;) {
    const match = field.exec(text);
    if (match === null) return malformed(`the CSV breaks in row ${rows.length + 1}`);
    const raw = match[1]!;
    row.push(raw.startsWith('"') ? raw.slice(1, -1).replaceAll('""', '"') : raw);
    if (match[2] === ",") continue;
    if (row.length > 1 || row[0] !== "") rows.push(row);
    row = [];
    if (field.lastIndex >= text.length) return rows;
  }
}

function malformed(message: string): never {
  throw new SignalboxError("REQUEST_MALFORMED", message, { param: "invoice" });
}
