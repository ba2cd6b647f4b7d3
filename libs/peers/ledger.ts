import type {
  BudgetState,
  CostRow,
  GetSummaryResponse,
  InvoiceDifference,
  InvoiceLine,
  InvoiceSums,
  LeaseBudgetRequest,
  LeaseBudgetResponse,
  LedgerReport,
  RecordScoreRequest,
  RecordScoreResponse,
} from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import type { Entry, PriceBook, Score, ScoreSum } from "#gen/signalbox/ledger/v1/ledger_pb.ts";

export type {
  BudgetState,
  CostRow,
  Entry,
  InvoiceDifference,
  InvoiceLine,
  InvoiceSums,
  LeaseBudgetRequest,
  LeaseBudgetResponse,
  LedgerReport,
  PriceBook,
  RecordScoreRequest,
  RecordScoreResponse,
  Score,
  ScoreSum,
};

/** Which entries to export. */
export interface EntryFilter {
  /** From, ms since the epoch, by the attempt's start. */
  readonly sinceMs?: number;
  /** Until (exclusive). */
  readonly untilMs?: number;
  readonly afterSequence?: bigint;
  readonly tenant?: string;
}

/** What to sum. */
export interface CostQuery {
  /** tenant, team, key_id, model, backend, provider, experiment, arm, month, day, hour, purpose, outcome, tag:NAME, tags (all of them as JSON). */
  readonly by: readonly string[];
  /** Only what used something without a price, and so misses a part of its cost. */
  readonly unpricedOnly?: boolean;
  readonly sinceMs?: number;
  readonly untilMs?: number;
  readonly limit?: number;
}

/** An invoice to be compared with the entries of a period. */
export interface InvoiceQuery {
  readonly lines: readonly InvoiceLine[];
  /** Entries from, ms since the epoch, by the attempt's start. */
  readonly sinceMs?: number;
  /** Until (exclusive). */
  readonly untilMs?: number;
  /** Only entries of these providers or backends; empty = all. */
  readonly only: readonly string[];
}

/** Every difference between an invoice and the ledger. */
export interface InvoiceComparison {
  readonly differences: readonly InvoiceDifference[];
  readonly sums: InvoiceSums;
}

/** The cost ledger, near or far. Writing happens only through outbox records on the bus. */
export interface LedgerPeer {
  /** Entries in booking order, in batches of at most 1,000. */
  exportEntries(filter: EntryFilter): AsyncIterable<readonly Entry[]>;
  costs(query: CostQuery): Promise<readonly CostRow[]>;
  priceBook(): Promise<PriceBook>;
  summary(): Promise<GetSummaryResponse>;
  /** Walks the whole ledger; `progress` hears of the entries walked so far. */
  verify(progress?: (entries: bigint) => void): Promise<LedgerReport>;
  /** Rejects with REQUEST_MALFORMED where a line cannot be priced. */
  reconcile(query: InvoiceQuery): Promise<InvoiceComparison>;
  /** Reports what was spent and leases slices of budgets. */
  leaseBudget(request: LeaseBudgetRequest): Promise<LeaseBudgetResponse>;
  /** Budgets with what is spent and left. */
  budgets(tenant?: string): Promise<readonly BudgetState[]>;
  /** Stores a score; `found` is false where the tenant has no booked answer of that id. Scores in experiments are then told on the bus. */
  recordScore(request: RecordScoreRequest): Promise<RecordScoreResponse>;
  /** Scores of answers in experiments, added up by experiment, arm, revision, metric and source; `experiment` empty = of all. */
  scores(experiment: string): Promise<readonly ScoreSum[]>;
}
