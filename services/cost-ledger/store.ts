import type { CostRow } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import type { Entry } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { CostQuery, EntryFilter } from "#libs/peers/index.ts";
import type { ObservationRow } from "./experiments/source-rows.ts";
import type { ChainLink, PricedRecord } from "./entries/index.ts";
import type { StoredPricePeriod } from "./price-periods.ts";
import type { RollupSums } from "./rollup-check.ts";
import type { AnswerRow, Replaced, ScoreRow, ScoreSums } from "./scores/answers.ts";

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

/** A row as it is checked: what the chain covers, and every column that repeats it, by name. */
export interface ChainRow extends ChainLink {
  readonly columns: Readonly<Record<string, unknown>>;
  readonly hash: Uint8Array;
}

/** What one backend's hour came to. */
export interface HourSum {
  readonly backend: string;
  /** Hours since the epoch. */
  readonly hour: number;
  /** All its entries, idle ones included, nano-USD. */
  readonly costNanoUsd: bigint;
  /** How many of them are idle entries. */
  readonly idleEntries: bigint;
}

/** A budget's state in one window, as text, and its revision. */
export interface BudgetRow {
  /** Budget and window. */
  readonly key: string;
  /** What was read; 0 = not there. */
  readonly revision: bigint;
  readonly state: string;
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
  /** What keeps entries from being changed: a trigger always, and the database role where the server lets one be made. */
  readonly appendOnly: "trigger" | "role and trigger";
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
  /** Sums of the roll-ups and the entry they reach to, from one snapshot. */
  rollupSums(): Promise<RollupSums>;
  /** Sums by backend and hour of the roll-ups, hours [from, until). */
  hourSums(fromHour: number, untilHour: number): Promise<readonly HourSum[]>;
  /** When each of these backends was first known here, ms since the epoch; those not known yet are noted with `nowMs`. */
  rentedSince(backends: readonly string[], nowMs: number): Promise<ReadonlyMap<string, number>>;
  /** The stored ones of these keys. */
  loadBudgets(keys: readonly string[]): Promise<readonly BudgetRow[]>;
  /** Replaces all of them if every one still has the revision it was read with; false, and nothing written, otherwise. */
  saveBudgets(rows: readonly BudgetRow[]): Promise<boolean>;
  /** Keeps a price book under its version, in force since `sinceMs` unless it is already; a version that is there stays as it is. */
  savePriceBook(version: string, book: Uint8Array, sinceMs: number): Promise<void>;
  priceBook(version: string): Promise<Uint8Array | undefined>;
  /** Which versions were in force from a moment on, oldest first. */
  pricePeriods(fromMs: number): Promise<readonly StoredPricePeriod[]>;
  /** What every source saw of experiments, as last saved. */
  loadObservations(): Promise<readonly ObservationRow[]>;
  /** Replaces what these sources saw. */
  saveObservations(rows: readonly ObservationRow[]): Promise<void>;
  /** Forgets a source. */
  dropObservations(experiment: string, source: string): Promise<void>;
  loadControl(): Promise<StoredControl | undefined>;
  /** Replaces the control state if it still has revision `expected` (0 = there is none); false when another writer was first. */
  saveControl(expected: bigint, next: StoredControl): Promise<boolean>;
  /** The answer a tenant got under a response id, as far as it is booked and not forgotten. */
  findAnswer(tenant: string, responseId: string): Promise<AnswerRow | undefined>;
  /** Forgets whose answers were booked before this, ms since the epoch. */
  forgetAnswers(beforeMs: number): Promise<void>;
  /** Stores a score in place of the one of the same tenant, response, metric and source. */
  saveScore(score: ScoreRow): Promise<Replaced>;
  /** Sums of an experiment's scores; of all experiments when it is empty. */
  scoreSums(experiment: string): Promise<readonly ScoreSums[]>;
  stop(): Promise<void>;
}

/** Ends a transaction in which another writer was first. */
export class Overtaken extends Error {}

/** The error of a store that is away. */
export function storeUnavailable(cause: unknown): SignalboxError {
  return new SignalboxError("INTERNAL", "the ledger's store does not answer", { code: "ledger_unavailable", httpStatus: 503, cause });
}
