import type { InvoiceLine } from "#simulator/index.ts";
import type { EntryLine } from "./gateway.ts";

/** Price of a backend in USD per million tokens, as numbers that are exact in nano-USD per thousand tokens. */
export interface ReconcilePrice {
  readonly input: number;
  readonly cacheRead: number;
  readonly cacheWrite: number;
  readonly output: number;
}

/** Differences between what the providers bill and what the ledger holds. */
export interface Differences {
  /** Billed attempts without an entry. */
  readonly lost: string[];
  /** Attempts with more than one entry. */
  readonly duplicate: string[];
  /** Entries whose tokens or cost differ from a stated invoice line. */
  readonly wrong: string[];
  /** Entries of invoice lines whose usage the provider never stated: they must be marked as estimates. */
  readonly unmarked: string[];
  readonly billed: number;
  readonly entries: number;
  readonly estimated: number;
  readonly invoiceNanoUsd: bigint;
  readonly ledgerNanoUsd: bigint;
}

/** Joins invoice and ledger by attempt id and recomputes every cost by itself. */
export function reconcile(
  invoice: readonly InvoiceLine[],
  entries: readonly EntryLine[],
  prices: ReadonlyMap<string, ReconcilePrice>,
): Differences {
  const byAttempt = new Map<string, EntryLine[]>();
  for (const entry of entries) byAttempt.set(entry.attempt_id, [...(byAttempt.get(entry.attempt_id) ?? []), entry]);
  const lost: string[] = [];
  const wrong: string[] = [];
  const unmarked: string[] = [];
  let invoiceNanoUsd = 0n;
  for (const line of invoice) {
    const cost = costOf(line, prices.get(line.backend)!);
    const entry = byAttempt.get(line.client_request_id)?.[0];
    if (!entry) {
      lost.push(line.client_request_id || `${line.backend} ${line.response_id}`);
      continue;
    }
    if (!line.stated) {
      if (!entry.estimated) unmarked.push(describe(line, entry));
      invoiceNanoUsd += BigInt(entry.cost_nano_usd);
      continue;
    }
    invoiceNanoUsd += cost;
    const same =
      Number(entry.input_tokens) === line.input_tokens &&
      Number(entry.cache_read_tokens) === line.cache_read_tokens &&
      Number(entry.cache_write_tokens) === line.cache_write_tokens &&
      Number(entry.output_tokens) === line.output_tokens &&
      BigInt(entry.cost_nano_usd) === cost &&
      entry.backend === line.backend;
    if (!same) wrong.push(describe(line, entry));
  }
  return {
    lost,
    duplicate: [...byAttempt].filter(([, list]) => list.length > 1).map(([id]) => id),
    wrong,
    unmarked,
    billed: invoice.length,
    entries: entries.length,
    estimated: entries.filter((entry) => entry.estimated).length,
    invoiceNanoUsd,
    ledgerNanoUsd: entries.reduce((sum, entry) => sum + BigInt(entry.cost_nano_usd), 0n),
  };
}

/** Cost in nano-USD, half up: USD per million tokens = 1,000 nano-USD per token; prices here have at most 6 decimals, so pico-USD are whole. */
function costOf(line: InvoiceLine, price: ReconcilePrice): bigint {
  const pico = (tokens: number, usdPerMillion: number): bigint => BigInt(tokens) * BigInt(Math.round(usdPerMillion * 1e6));
  const sum =
    pico(line.input_tokens, price.input) +
    pico(line.cache_read_tokens, price.cacheRead) +
    pico(line.cache_write_tokens, price.cacheWrite) +
    pico(line.output_tokens, price.output);
  return (sum + 500n) / 1000n;
}

function describe(line: InvoiceLine, entry: EntryLine): string {
  const tokens = (source: {
    input_tokens: unknown;
    cache_read_tokens: unknown;
    cache_write_tokens: unknown;
    output_tokens: unknown;
  }): string =>
    `${String(source.input_tokens)}/${String(source.cache_read_tokens)}/${String(source.cache_write_tokens)}/${String(source.output_tokens)}`;
  return `${entry.attempt_id} ${line.backend} billed ${tokens(line)}${line.stated ? "" : " (not stated)"}, entry ${entry.backend} ${tokens(entry)} ${entry.outcome}${entry.estimated ? " estimated" : ""} ${entry.cost_nano_usd} nano-USD`;
}
