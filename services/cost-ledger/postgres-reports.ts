import type pg from "pg";
import { SignalboxError } from "#libs/errors/index.ts";

/** A report that takes longer is given up, by the server and, a little later, by the client: one by a tag over a month of a large ledger reads every entry. */
const REPORT_TIMEOUT_MS = 60_000;
const REPORT_QUERY_TIMEOUT_MS = 62_000;
/** Memory of one report's sorting: what does not fit goes to the disk and takes several times as long. */
const REPORT_WORK_MEM = "32MB";
/** Reports at once: booking and budgets keep connections of their own, however many ask. */
const REPORTS_MAX = 2;

/** SQLSTATE of a statement that took too long. */
export const QUERY_CANCELED = "57014";

const SETTINGS = `SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = ${REPORT_TIMEOUT_MS}; SET LOCAL work_mem = '${REPORT_WORK_MEM}'`;

type Transaction = <T>(work: (client: pg.PoolClient) => Promise<T>) => Promise<T>;

/** Reads what takes long, a few reports at a time and the others in their turn. */
export class ReportLanes {
  readonly #transaction: Transaction;
  readonly #lanes: Promise<unknown>[] = Array.from({ length: REPORTS_MAX }, () => Promise.resolve());
  #asked = 0;

  constructor(transaction: Transaction) {
    this.#transaction = transaction;
  }

  /** The rows that `read` finds in a transaction that cannot write. */
  read<T>(read: (client: pg.PoolClient) => Promise<{ rows: T[] }>): Promise<T[]> {
    const lane = this.#asked++ % REPORTS_MAX;
    const report = this.#lanes[lane]!.then(() =>
      this.#transaction(async (client) => {
        await client.query(SETTINGS);
        return (await read(client)).rows;
      }),
    );
    this.#lanes[lane] = report.catch(() => undefined);
    return report;
  }
}

/** A query that may take as long as reports may; the driver's types leave the time-out of a single query out. */
export function reportQuery(text: string, values: readonly unknown[]): pg.QueryConfig<unknown[]> {
  return { text, values: [...values], query_timeout: REPORT_QUERY_TIMEOUT_MS } as pg.QueryConfig<unknown[]>;
}

/** What a report that was given up says: the server is not away then. */
export function tookTooLong(cause: unknown): SignalboxError {
  return new SignalboxError("DEADLINE_EXCEEDED", "the ledger's store took too long: ask for a shorter period", { cause });
}
