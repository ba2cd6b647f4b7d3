import type { CostRow, GetSummaryResponse } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import type { Entry, PriceBook } from "#gen/signalbox/ledger/v1/ledger_pb.ts";

export type { CostRow, Entry, PriceBook };

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
  /** tenant, team, key_id, model, backend, provider, experiment, arm, day, hour, tag:NAME. */
  readonly by: readonly string[];
  readonly sinceMs?: number;
  readonly untilMs?: number;
  readonly limit?: number;
}

/** The cost ledger, near or far. Writing happens only through outbox records on the bus. */
export interface LedgerPeer {
  /** Entries in booking order, in batches of at most 1,000. */
  exportEntries(filter: EntryFilter): AsyncIterable<readonly Entry[]>;
  costs(query: CostQuery): Promise<readonly CostRow[]>;
  priceBook(): Promise<PriceBook>;
  summary(): Promise<GetSummaryResponse>;
}
