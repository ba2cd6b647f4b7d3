import type pg from "pg";
import type { RecordKind } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { COLUMNS, type ColumnValue } from "./columns.ts";
import { CHAIN_START, planEntries, type BookedAttempt, type ChainEnd, type PricedRecord } from "./entries/index.ts";
import { ROLLUP_ADD, ROLLUP_COLUMNS, ROLLUP_DIMENSIONS, ROLLUP_SUMS, rollUp, type RollupRow } from "./rollups.ts";
import { answersOf } from "./scores/answers.ts";
import { noteAnswers } from "./scores/postgres-scores.ts";
import { Overtaken, type Booked, type BudgetRow } from "./store.ts";

/** Advisory lock of this program: one writer of entries over all processes. */
const WRITER_LOCK = 7_201_001;

const INSERT = `INSERT INTO entries (${COLUMNS.map(({ name }) => name).join(", ")})
  SELECT * FROM unnest(${COLUMNS.map(({ postgres }, index) => `$${index + 1}::${postgres}[]`).join(", ")})`;

const ADD_ROLLUPS = `INSERT INTO rollups (${ROLLUP_COLUMNS.join(", ")})
  SELECT * FROM unnest(${ROLLUP_COLUMNS.map((name, index) => `$${index + 1}::${isText(name) ? "text" : "int8"}[]`).join(", ")}) ${ROLLUP_ADD}`;

function isText(column: string): boolean {
  return (ROLLUP_DIMENSIONS as readonly string[]).includes(column);
}

/** One array per column. */
function rollupValues(rows: readonly RollupRow[]): (string[] | number[])[] {
  return [
    rows.map(({ hour }) => hour),
    ...ROLLUP_DIMENSIONS.map((_, index) => rows.map(({ dimensions }) => dimensions[index]!)),
    ...ROLLUP_SUMS.map((_, index) => rows.map(({ sums }) => sums[index]!.toString())),
  ];
}

/** Books a batch inside the transaction `client` is in: one writer at a time over all processes. */
export async function bookBatch(client: pg.PoolClient, records: readonly PricedRecord[], nowMs: number): Promise<Booked> {
  await client.query("SELECT pg_advisory_xact_lock($1)", [WRITER_LOCK]);
  const ids = records.map(({ record }) => record.attemptId);
  const [existing, end] = [await existingOf(client, ids), await chainEnd(client)];
  const plan = planEntries(records, existing, end, nowMs);
  if (plan.rows.length > 0) {
    await client.query(
      INSERT,
      COLUMNS.map(({ value }) => plan.rows.map((row) => parameterOf(value(row)))),
    );
  }
  await noteAnswers(client, answersOf(plan.rows));
  const rolled = rollUp(plan.rows);
  if (rolled.length > 0) await client.query(ADD_ROLLUPS, rollupValues(rolled));
  if (plan.duplicates > 0) await client.query("UPDATE counters SET value = value + $1 WHERE name = 'duplicates'", [plan.duplicates]);
  return { entries: plan.rows.length, duplicates: plan.duplicates };
}

async function existingOf(client: pg.PoolClient, attemptIds: readonly string[]): Promise<ReadonlyMap<string, BookedAttempt>> {
  const { rows } = await client.query<{
    attempt_id: string;
    kind: RecordKind;
    record: Buffer;
    baseline_nano_usd: string;
    reversed: boolean;
  }>(
    `SELECT attempt_id, kind, record, baseline_nano_usd,
       EXISTS (SELECT 1 FROM entries later WHERE later.attempt_id = entries.attempt_id AND later.part = 1) AS reversed
     FROM entries WHERE attempt_id = ANY($1::text[]) AND part = 0`,
    [attemptIds],
  );
  return new Map(
    rows.map((row) => [
      row.attempt_id,
      { kind: row.kind, record: row.record, baselineNanoUsd: BigInt(row.baseline_nano_usd), reversed: row.reversed },
    ]),
  );
}

async function chainEnd(client: pg.PoolClient): Promise<ChainEnd> {
  const { rows } = await client.query<{ sequence: string; hash: Buffer }>(
    "SELECT sequence, hash FROM entries ORDER BY sequence DESC LIMIT 1",
  );
  return rows[0] ? { sequence: BigInt(rows[0].sequence), hash: rows[0].hash } : CHAIN_START;
}

/** The driver writes arrays of Buffers, numbers and texts; a bigint goes as text. */
function parameterOf(value: ColumnValue): string | number | Buffer {
  if (typeof value === "bigint") return value.toString();
  return value instanceof Uint8Array ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : value;
}

/** Writes every row if each still has its revision. Throws {@link Overtaken} otherwise, so that the transaction ends. */
export async function saveBudgetRows(client: pg.PoolClient, rows: readonly BudgetRow[]): Promise<void> {
  // Rows are locked in one order by every writer: two of them never wait for each other.
  for (const { key, revision, state } of rows.toSorted((a, b) => (a.key < b.key ? -1 : 1))) {
    const { rowCount } =
      revision === 0n
        ? await client.query("INSERT INTO budgets VALUES ($1, 1, $2) ON CONFLICT DO NOTHING", [key, state])
        : await client.query("UPDATE budgets SET revision = revision + 1, state = $2 WHERE key = $1 AND revision = $3", [
            key,
            state,
            revision.toString(),
          ]);
    if (rowCount !== 1) throw new Overtaken();
  }
}
