import { create } from "@bufbuild/protobuf";
import { LedgerReportSchema, type LedgerReport } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import { COLUMNS } from "./columns.ts";
import { CHAIN_START, chainHash, PART, RECORD, type ChainEnd, type EntryRow } from "./entries/index.ts";
import { EntryCuts, type RollupSums } from "./rollup-check.ts";
import { ROLLUP_SUMS } from "./rollups.ts";
import type { ChainRow, LedgerStore } from "./store.ts";

/** Rows read at a time. */
const READ_ROWS = 2_000;
/** Problems listed; beyond it they are only counted. */
const LISTED_MAX = 1_000;
/** Sums every ledger is cut into; each must add up to the total. */
const CUTS = ["tenant", "team", "backend"] as const;

/** What is wrong. gap: rows are missing. hash: the row was changed. columns: one disagrees with its record. sum: cuts do not add up to the total. rollup: a roll-up is not the sum of its entries. */
type ProblemKind = "gap" | "hash" | "columns" | "sum" | "rollup";

class Findings {
  readonly report: LedgerReport = create(LedgerReportSchema);

  add(sequence: bigint, kind: ProblemKind, detail: string): void {
    this.report.problemCount++;
    if (this.report.problems.length >= LISTED_MAX) return;
    this.report.problems.push({ $typeName: "signalbox.ledger.v1.LedgerProblem", sequence, kind, detail });
  }
}

/**
 * Walks the whole ledger: every row follows from the one before it, every column from its record, the roll-ups from the
 * rows, and the sums by tenant, team and backend are the total. `progress` hears of the entries walked so far.
 */
export async function verifyLedger(store: LedgerStore, progress?: (entries: bigint) => void): Promise<LedgerReport> {
  const rolled = await store.rollupSums();
  const findings = new Findings();
  const { report } = findings;
  const cuts = new EntryCuts();
  /** Cost of what the roll-ups reach to. */
  let covered = 0n;
  let last: ChainEnd = CHAIN_START;
  for (;;) {
    const rows = await store.chain(last.sequence, READ_ROWS);
    if (rows.length === 0) break;
    const entries: EntryRow[] = [];
    for (const row of rows) {
      const entry = checkRow(row, last, findings);
      const cost = BigInt(row.columns["cost_nano_usd"] as string | bigint);
      report.entries++;
      report.costNanoUsd += cost;
      if (row.sequence <= rolled.sequence) {
        covered += cost;
        if (entry !== undefined) entries.push(entry);
      }
      // Going on from the stored hash names the changed row alone, not everything behind it.
      last = row;
    }
    cuts.add(entries);
    progress?.(report.entries);
  }
  report.head = Buffer.from(last.hash).toString("hex");
  checkSums(rolled, cuts, covered, findings);
  return report;
}

/** Checks a row and returns its entry; undefined when its record cannot be read. */
function checkRow(row: ChainRow, last: ChainEnd, findings: Findings): EntryRow | undefined {
  if (row.sequence !== last.sequence + 1n)
    findings.add(row.sequence, "gap", `${row.sequence - last.sequence - 1n} entries are missing before it`);
  else if (Buffer.compare(row.hash, chainHash(last.hash, row)) !== 0)
    findings.add(row.sequence, "hash", "the entry is not the one that was booked");
  const entry = entryRowOf(row);
  const wrong = entry === undefined ? ["record"] : differingColumns(row, entry);
  if (wrong.length > 0) findings.add(row.sequence, "columns", `differs from its record: ${wrong.join(", ")}`);
  return entry;
}

function entryRowOf(row: ChainRow): EntryRow | undefined {
  try {
    const decoded = RECORD.decode(row.record);
    return { ...row, attemptId: decoded.attemptId, sign: row.part === PART.reversal ? -1 : 1, decoded };
  } catch {
    return undefined;
  }
}

function differingColumns(row: ChainRow, entry: EntryRow): readonly string[] {
  return COLUMNS.filter(({ name, value }) => normal(name, row.columns[name]) !== normal(name, value(entry))).map(({ name }) => name);
}

/** One spelling for what the databases give back in theirs. */
function normal(name: string, value: unknown): string {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  if (name !== "tags") return `${value as string | number | bigint}`;
  const tags = (typeof value === "string" ? parsed(value) : value) as Record<string, string>;
  return JSON.stringify(Object.entries(tags).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** Text that is no JSON is no tags. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return { [text]: "" };
  }
}

function checkSums(rolled: RollupSums, cuts: EntryCuts, total: bigint, findings: Findings): void {
  for (const difference of cuts.differences(rolled)) findings.add(0n, "rollup", difference);
  const { report } = findings;
  const add = (by: string, costNanoUsd: bigint): void => {
    report.sums.push({ $typeName: "signalbox.ledger.v1.LedgerSum", by, costNanoUsd: costNanoUsd + report.costNanoUsd - total });
    if (costNanoUsd !== total) findings.add(0n, "sum", `by ${by} ${costNanoUsd} nano-USD, in all ${total}`);
  };
  for (const by of CUTS) add(by, cuts.total(by, "cost_nano_usd"));
  add("rollups", rollupTotal(rolled));
}

/** Cost of all roll-ups: each is in one tenant's cut. */
function rollupTotal(rolled: RollupSums): bigint {
  const index = ROLLUP_SUMS.findIndex(({ name }) => name === "cost_nano_usd");
  return rolled.cuts.reduce((sum, { by, sums }) => (by === "tenant" ? sum + sums[index]! : sum), 0n);
}
