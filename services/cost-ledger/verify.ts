import { create } from "@bufbuild/protobuf";
import { LedgerReportSchema, type LedgerReport } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import { COLUMNS } from "./columns.ts";
import { CHAIN_START, chainHash, RECORD, type ChainEnd } from "./entries/index.ts";
import type { ChainRow, LedgerStore, RollupSums } from "./store.ts";

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
  const cuts = new Map<string, bigint>();
  let covered = 0n;
  let last: ChainEnd = CHAIN_START;
  for (;;) {
    const rows = await store.chain(last.sequence, READ_ROWS);
    if (rows.length === 0) break;
    for (const row of rows) {
      checkRow(row, last, findings);
      const cost = BigInt(row.columns["cost_nano_usd"] as string | bigint);
      report.entries++;
      report.costNanoUsd += cost;
      if (row.sequence <= rolled.sequence) {
        covered += cost;
        for (const by of CUTS) {
          const key = JSON.stringify([by, row.columns[by]]);
          cuts.set(key, (cuts.get(key) ?? 0n) + cost);
        }
      }
      // Going on from the stored hash names the changed row alone, not everything behind it.
      last = row;
    }
    progress?.(report.entries);
  }
  report.head = Buffer.from(last.hash).toString("hex");
  checkSums(rolled, cuts, covered, findings);
  return report;
}

function checkRow(row: ChainRow, last: ChainEnd, findings: Findings): void {
  if (row.sequence !== last.sequence + 1n)
    findings.add(row.sequence, "gap", `${row.sequence - last.sequence - 1n} entries are missing before it`);
  else if (Buffer.compare(row.hash, chainHash(last.hash, row)) !== 0)
    findings.add(row.sequence, "hash", "the entry is not the one that was booked");
  const wrong = differingColumns(row);
  if (wrong.length > 0) findings.add(row.sequence, "columns", `differs from its record: ${wrong.join(", ")}`);
}

function differingColumns(row: ChainRow): readonly string[] {
  try {
    const decoded = RECORD.decode(row.record);
    const entry = { ...row, attemptId: decoded.attemptId, sign: row.part === 1 ? (-1 as const) : (1 as const), decoded };
    return COLUMNS.filter(({ name, value }) => normal(name, row.columns[name]) !== normal(name, value(entry))).map(({ name }) => name);
  } catch {
    return ["record"];
  }
}

/** One spelling for what the databases give back in theirs. */
function normal(name: string, value: unknown): string {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  if (name !== "tags") return `${value as string | number | bigint}`;
  const tags = (typeof value === "string" ? JSON.parse(value) : value) as Record<string, string>;
  return JSON.stringify(Object.entries(tags).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function checkSums(rolled: RollupSums, cuts: ReadonlyMap<string, bigint>, total: bigint, findings: Findings): void {
  const fromRollups = new Map<string, bigint>();
  for (const group of rolled.groups) {
    for (const by of CUTS) {
      const key = JSON.stringify([by, group[by]]);
      fromRollups.set(key, (fromRollups.get(key) ?? 0n) + group.costNanoUsd);
    }
  }
  for (const key of new Set([...cuts.keys(), ...fromRollups.keys()])) {
    const [own, theirs] = [cuts.get(key) ?? 0n, fromRollups.get(key) ?? 0n];
    if (own === theirs) continue;
    const [by, name] = JSON.parse(key) as [string, string];
    findings.add(0n, "rollup", `${by} ${JSON.stringify(name)}: the entries come to ${own} nano-USD, the roll-ups to ${theirs}`);
  }
  const sum = (groups: Iterable<readonly [string, bigint]>, by: string): bigint => {
    let amount = 0n;
    for (const [key, cost] of groups) if (key.startsWith(`["${by}"`)) amount += cost;
    return amount;
  };
  const { report } = findings;
  const add = (by: string, costNanoUsd: bigint): void => {
    report.sums.push({ $typeName: "signalbox.ledger.v1.LedgerSum", by, costNanoUsd: costNanoUsd + report.costNanoUsd - total });
    if (costNanoUsd !== total) findings.add(0n, "sum", `by ${by} ${costNanoUsd} nano-USD, in all ${total}`);
  };
  for (const by of CUTS) add(by, sum(cuts, by));
  add("rollups", sum(fromRollups, "tenant"));
}
