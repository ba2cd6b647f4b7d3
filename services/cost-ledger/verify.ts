import { fromBinary } from "@bufbuild/protobuf";
import { AttemptRecordSchema } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { CHAIN_START, chainHash } from "./entries/index.ts";
import type { ChainRow, LedgerStore } from "./store.ts";

/** Rows read at a time. */
const READ_ROWS = 2_000;
/** Problems listed; beyond it they are only counted. */
const LISTED_MAX = 1_000;

/** What is wrong with a row. */
export interface ChainProblem {
  readonly sequence: bigint;
  /** gap: rows are missing before it. hash: the row, or one before it, was changed. columns: a column disagrees with the record. */
  readonly kind: "gap" | "hash" | "columns";
}

/** Result of a verification. */
export interface ChainReport {
  readonly entries: bigint;
  readonly problems: readonly ChainProblem[];
  readonly problemCount: number;
  /** Hash of the last row, hex: kept elsewhere, it shows later that no row was taken from the end. */
  readonly head: string;
}

/** Walks the whole ledger: every row follows from the one before it, and every column from its record. */
export async function verifyLedger(store: LedgerStore): Promise<ChainReport> {
  const problems: ChainProblem[] = [];
  let problemCount = 0;
  let entries = 0n;
  let last = CHAIN_START;
  const report = (sequence: bigint, kind: ChainProblem["kind"]): void => {
    problemCount++;
    if (problems.length < LISTED_MAX) problems.push({ sequence, kind });
  };
  for (;;) {
    const rows = await store.chain(last.sequence, READ_ROWS);
    if (rows.length === 0) break;
    for (const row of rows) {
      entries++;
      if (row.sequence !== last.sequence + 1n) report(row.sequence, "gap");
      else if (!isEqual(row.hash, chainHash(last.hash, row.sequence, row.part, row.record))) report(row.sequence, "hash");
      if (!columnsAgree(row)) report(row.sequence, "columns");
      // Going on from the stored hash names the changed row alone, not everything behind it.
      last = row;
    }
  }
  return { entries, problems, problemCount, head: Buffer.from(last.hash).toString("hex") };
}

function columnsAgree(row: ChainRow): boolean {
  try {
    const record = fromBinary(AttemptRecordSchema, row.record);
    return (
      record.attemptId === row.attemptId &&
      record.tenant === row.tenant &&
      record.costNanoUsd === row.costNanoUsd &&
      row.sign === (row.part === 1 ? -1 : 1)
    );
  } catch {
    return false;
  }
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
