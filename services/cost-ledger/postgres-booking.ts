import type pg from "pg";
import { RecordKind } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { COLUMNS } from "./columns.ts";
import { CHAIN_START, planEntries, type BookedAttempt, type ChainEnd, type EntryRow, type PricedRecord } from "./entries/index.ts";
import { BinaryValues, copyHead, copyIn, integers, texts } from "./postgres-binary.ts";
import { ROLLUP_COLUMNS, ROLLUP_DIMENSIONS, ROLLUP_SUMS, ROLLUP_TABLES, rollUp, rollUpDays, rollupAdd, type RollupRow } from "./rollups.ts";
import { answersOf } from "./scores/answers.ts";
import { noteAnswers } from "./scores/postgres-scores.ts";
import { Overtaken, type Booked, type BudgetRow } from "./store.ts";

/** Advisory lock of this program: one writer of entries over all processes. */
const WRITER_LOCK = 7_201_001;

const COPY = `COPY entries (${COLUMNS.map(({ name }) => name).join(", ")}) FROM STDIN (FORMAT binary)`;

/** What is needed only of an estimate, which may have to be taken back, is read only for one: after an outage thousands of duplicates are looked up. */
const EXISTING = `SELECT attempt_id, kind, CASE WHEN kind = ${RecordKind.EXPIRE} THEN record ELSE '' END AS record, baseline_nano_usd,
    kind = ${RecordKind.EXPIRE}
      AND EXISTS (SELECT 1 FROM entries later WHERE later.attempt_id = entries.attempt_id AND later.part = 1) AS reversed
  FROM entries WHERE attempt_id = ANY($1::text[]) AND part = 0`;

function addRollups(table: string): string {
  const arrays = ROLLUP_COLUMNS.map((name, index) => `$${index + 1}::${isText(name) ? "text" : "int8"}[]`);
  return `INSERT INTO ${table} (${ROLLUP_COLUMNS.join(", ")}) SELECT * FROM unnest(${arrays.join(", ")}) ${rollupAdd(table)}`;
}

const ADD_HOURS = addRollups(ROLLUP_TABLES.hours);
const ADD_DAYS = addRollups(ROLLUP_TABLES.days);

function isText(column: string): boolean {
  return (ROLLUP_DIMENSIONS as readonly string[]).includes(column);
}

/** One array per column. */
function rollupValues(rows: readonly RollupRow[]): Buffer[] {
  return [
    integers(rows.map(({ hour }) => hour)),
    ...ROLLUP_DIMENSIONS.map((_, index) => texts(rows.map(({ dimensions }) => dimensions[index]!))),
    ...ROLLUP_SUMS.map((_, index) => integers(rows.map(({ sums }) => sums[index]!))),
  ];
}

/** Rows on their way to the server; one writer at a time, so one buffer. */
export class EntryRows {
  readonly #values = new BinaryValues();

  /** Adds rows to `entries` in the transaction `client` is in. */
  async insert(client: pg.ClientBase, rows: readonly EntryRow[]): Promise<void> {
    const values = this.#values;
    values.reset();
    copyHead(values);
    for (const row of rows) {
      values.count16(COLUMNS.length);
      for (const column of COLUMNS) column.write(values, row);
    }
    await copyIn(client, COPY, values);
  }
}

/** Books a batch inside the transaction `client` is in: one writer at a time over all processes. */
export async function bookBatch(
  client: pg.PoolClient,
  entryRows: EntryRows,
  records: readonly PricedRecord[],
  nowMs: number,
): Promise<Booked> {
  await client.query("SELECT pg_advisory_xact_lock($1)", [WRITER_LOCK]);
  const ids = records.map(({ record }) => record.attemptId);
  const [existing, end] = [await existingOf(client, ids), await chainEnd(client)];
  const plan = planEntries(records, existing, end, nowMs);
  if (plan.rows.length > 0) {
    await entryRows.insert(client, plan.rows);
    await noteAnswers(client, answersOf(plan.rows));
    const hours = rollUp(plan.rows);
    await client.query({ name: "add-hours", text: ADD_HOURS, values: rollupValues(hours) });
    await client.query({ name: "add-days", text: ADD_DAYS, values: rollupValues(rollUpDays(hours)) });
  }
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
  }>({ name: "existing", text: EXISTING, values: [texts(attemptIds)] });
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
