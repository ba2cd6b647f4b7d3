import type { CostRow } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import type { Entry } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { CostQuery, EntryFilter } from "#libs/peers/index.ts";
import type { PricedRecord } from "./entries/index.ts";

/** What a batch did. */
export interface Booked {
  /** Entries written, reversals included. */
  readonly entries: number;
  /** Records refused because their attempt is booked. */
  readonly duplicates: number;
}

/** Sums over everything. */
export interface StoreTotals {
  readonly entries: bigint;
  readonly costNanoUsd: bigint;
  /** Duplicates refused since the store was made. */
  readonly duplicates: bigint;
  /** ms since the epoch; 0 = nothing booked. */
  readonly lastBookedAtMs: number;
}

/** A row as it is checked: everything the chain covers and the columns that repeat it. */
export interface ChainRow {
  readonly sequence: bigint;
  readonly part: number;
  readonly sign: number;
  readonly attemptId: string;
  readonly tenant: string;
  readonly costNanoUsd: bigint;
  readonly record: Uint8Array;
  readonly hash: Uint8Array;
}

/** Stored control state: the encoded message and its revision. */
export interface StoredControl {
  readonly revision: bigint;
  readonly state: Uint8Array;
}

/** Entries one export call returns at most. */
export const EXPORT_BATCH_MAX = 1_000;
/** Rows a sum returns when the query does not say. */
export const COST_ROWS_DEFAULT = 10_000;

/**
 * Where entries live. The truth about money: every method but `start` and `stop` rejects with INTERNAL, code
 * `ledger_unavailable`, while the store is away, and nothing is booked in part.
 */
export interface LedgerStore {
  readonly kind: "sqlite" | "postgres";
  /** Whether the store answered last time. */
  readonly up: boolean;
  /** Calls `listener` on every change of `up`. */
  onChange(listener: (up: boolean) => void): void;
  /** SQLite: opens the file, rejects when it cannot. PostgreSQL: resolves at once and connects, again and again, behind. */
  start(): Promise<void>;
  /** Books a batch in one transaction. Concurrent calls are serialised, over all processes. */
  book(records: readonly PricedRecord[], nowMs: number): Promise<Booked>;
  /** Entries above `after`, ascending, at most {@link EXPORT_BATCH_MAX}. */
  exportEntries(filter: EntryFilter, after: bigint): Promise<readonly Entry[]>;
  /** Sums by groups, dearest first. Rejects with REQUEST_MALFORMED on an unknown dimension. */
  costs(query: CostQuery): Promise<readonly CostRow[]>;
  totals(): Promise<StoreTotals>;
  /** Rows above `after`, ascending, for verification. */
  chain(after: bigint, limit: number): Promise<readonly ChainRow[]>;
  /** Keeps a price book under its version; a version that is there stays as it is. */
  savePriceBook(version: string, book: Uint8Array, nowMs: number): Promise<void>;
  priceBook(version: string): Promise<Uint8Array | undefined>;
  loadControl(): Promise<StoredControl | undefined>;
  /** Replaces the control state if it still has revision `expected` (0 = there is none); false when another writer was first. */
  saveControl(expected: bigint, next: StoredControl): Promise<boolean>;
  stop(): Promise<void>;
}

/** The error of a store that is away. */
export function storeUnavailable(cause: unknown): SignalboxError {
  return new SignalboxError("INTERNAL", "the ledger's store does not answer", { code: "ledger_unavailable", httpStatus: 503, cause });
}
