import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import type { CostRow } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import type { Entry, RecordKind } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { CostQuery, EntryFilter } from "#libs/peers/index.ts";
import { COLUMNS } from "./columns.ts";
import { costRow, costSql, microseconds, type SqlDialect } from "./cost-query.ts";
import {
  ROLLUP_COLUMNS,
  ROLLUP_DAYS_FILL,
  ROLLUP_DIMENSIONS,
  ROLLUP_FILL,
  ROLLUP_SUMS,
  ROLLUP_TABLES,
  TOTALS,
  UNPRICED_INDEX,
  rollUp,
  rollUpDays,
  rollupAdd,
} from "./rollups.ts";
import { notePeriodSql, periodsSql, PRICE_PERIODS_FILL, type StoredPricePeriod } from "./price-periods.ts";
import { ROLLUP_CHECK, rollupSumsOf, type RollupSums } from "./rollup-check.ts";
import { CHAIN_START, entryOf, planEntries, type BookedAttempt, type ChainEnd, type PricedRecord } from "./entries/index.ts";
import type { ObservationRow } from "./experiments/source-rows.ts";
import { answersOf, type AnswerRow, type Replaced, type ScoreRow, type ScoreSums } from "./scores/answers.ts";
import { findAnswer, noteAnswers, putScore, SQLITE_SCORE_TABLES, sumScores } from "./scores/sqlite-scores.ts";
import {
  EXPORT_BATCH_MAX,
  Overtaken,
  storeUnavailable,
  type Booked,
  type BudgetRow,
  type ChainRow,
  type HourSum,
  type LedgerStore,
  type StoredControl,
  type StoreTotals,
} from "./store.ts";

/** How long a writer waits for another process's transaction, ms. */
const BUSY_TIMEOUT_MS = 5_000;

/** Applied in order; `user_version` counts them. Entries are append-only: the triggers refuse anything else. */
const MIGRATIONS = [
  `CREATE TABLE entries (${COLUMNS.map(({ name, sqlite }) => `${name} ${sqlite}`).join(", ")},
     PRIMARY KEY (sequence), UNIQUE (attempt_id, part));
   CREATE INDEX entries_started ON entries (started_at_us);
   CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END;
   CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END;
   CREATE TABLE price_books (version TEXT PRIMARY KEY, first_seen_ms INTEGER NOT NULL, book BLOB NOT NULL);
   CREATE TABLE control (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL, state BLOB NOT NULL);
   CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
   INSERT INTO counters VALUES ('duplicates', 0);`,
  `CREATE TABLE rollups (hour INTEGER NOT NULL, ${ROLLUP_DIMENSIONS.map((name) => `${name} TEXT NOT NULL`).join(", ")},
     ${ROLLUP_SUMS.map(({ name }) => `${name} INTEGER NOT NULL`).join(", ")},
     PRIMARY KEY (hour, ${ROLLUP_DIMENSIONS.join(", ")})) WITHOUT ROWID;
   CREATE TABLE rents (backend TEXT PRIMARY KEY, since_ms INTEGER NOT NULL);
   CREATE TABLE budgets (key TEXT PRIMARY KEY, revision INTEGER NOT NULL, state TEXT NOT NULL);
   ${ROLLUP_FILL};`,
  SQLITE_SCORE_TABLES,
  `CREATE TABLE rollup_days (hour INTEGER NOT NULL, ${ROLLUP_DIMENSIONS.map((name) => `${name} TEXT NOT NULL`).join(", ")},
     ${ROLLUP_SUMS.map(({ name }) => `${name} INTEGER NOT NULL`).join(", ")},
     PRIMARY KEY (hour, ${ROLLUP_DIMENSIONS.join(", ")})) WITHOUT ROWID;
   ${ROLLUP_DAYS_FILL};`,
  `CREATE TABLE observations (experiment TEXT NOT NULL, source TEXT NOT NULL, run TEXT NOT NULL, at_ms INTEGER NOT NULL, state TEXT NOT NULL,
     PRIMARY KEY (experiment, source)) WITHOUT ROWID;`,
  `CREATE TABLE price_periods (since_ms INTEGER NOT NULL, version TEXT NOT NULL, PRIMARY KEY (since_ms, version)) WITHOUT ROWID;
   ${PRICE_PERIODS_FILL};`,
  UNPRICED_INDEX,
];

const DIALECT: SqlDialect = {
  parameter: () => "?",
  day: "strftime('%Y-%m-%d', hour * 3600, 'unixepoch')",
  hour: "strftime('%Y-%m-%dT%H:00:00Z', hour * 3600, 'unixepoch')",
  month: "strftime('%Y-%m', hour * 3600, 'unixepoch')",
  tag: (key) => `COALESCE(tags ->> ${key}, '')`,
  tags: "tags",
  tagKey: (name) => `$."${name.replaceAll('"', '\\"')}"`,
};

/**
 * The ledger in one SQLite file: WAL, every commit synced (`synchronous=FULL`). SQLite answers on the calling thread;
 * `createSqliteStore` keeps it off the event loop.
 */
export class SqliteDatabase implements LedgerStore {
  readonly kind = "sqlite";
  readonly appendOnly = "trigger";
  readonly #path: string;
  #database: DatabaseSync | undefined;
  #insert: StatementSync | undefined;
  #existing: StatementSync | undefined;
  #addHour: StatementSync | undefined;
  #addDay: StatementSync | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  get up(): boolean {
    return this.#database !== undefined;
  }

  onChange(): void {
    // An open file stays open.
  }

  async start(): Promise<void> {
    if (this.#path !== ":memory:") mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 });
    const database = new DatabaseSync(this.#path, { readBigInts: true });
    database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;`);
    this.#database = database;
    this.#transaction(() => {
      const version = Number(database.prepare("PRAGMA user_version").get()!["user_version"]);
      for (const migration of MIGRATIONS.slice(version)) database.exec(migration);
      database.exec(`PRAGMA user_version = ${MIGRATIONS.length}`);
    });
    const names = COLUMNS.map(({ name }) => name);
    this.#insert = database.prepare(`INSERT INTO entries (${names.join(", ")}) VALUES (${names.map(() => "?").join(", ")})`);
    const adder = (table: string): StatementSync =>
      database.prepare(
        `INSERT INTO ${table} (${ROLLUP_COLUMNS.join(", ")}) VALUES (${ROLLUP_COLUMNS.map(() => "?").join(", ")}) ${rollupAdd(table)}`,
      );
    this.#addHour = adder(ROLLUP_TABLES.hours);
    this.#addDay = adder(ROLLUP_TABLES.days);
    this.#existing = database.prepare(
      `SELECT attempt_id, kind, record, baseline_nano_usd, part FROM entries
       WHERE attempt_id IN (SELECT value FROM json_each(?)) AND part < 2 ORDER BY attempt_id, part`,
    );
  }

  async book(records: readonly PricedRecord[], nowMs: number): Promise<Booked> {
    return this.#transaction((database) => {
      const plan = planEntries(records, this.#booked(records), chainEnd(database), nowMs);
      noteAnswers(database, answersOf(plan.rows));
      const values: SQLInputValue[] = [];
      for (const row of plan.rows) {
        for (let at = 0; at < COLUMNS.length; at++) values[at] = COLUMNS[at]!.value(row);
        this.#insert!.run(...values);
      }
      const hours = rollUp(plan.rows);
      for (const { hour, dimensions, sums } of hours) this.#addHour!.run(hour, ...dimensions, ...sums);
      for (const { hour, dimensions, sums } of rollUpDays(hours)) this.#addDay!.run(hour, ...dimensions, ...sums);
      if (plan.duplicates > 0) database.prepare("UPDATE counters SET value = value + ? WHERE name = 'duplicates'").run(plan.duplicates);
      return { entries: plan.rows.length, duplicates: plan.duplicates };
    });
  }

  /** What is booked of these attempts, by attempt: one question for all of them, and nearly always the answer is nothing. */
  #booked(records: readonly PricedRecord[]): ReadonlyMap<string, BookedAttempt> {
    const booked = new Map<string, BookedAttempt>();
    for (const row of this.#existing!.iterate(JSON.stringify(records.map(({ record }) => record.attemptId)))) {
      const attemptId = row["attempt_id"] as string;
      const original = booked.get(attemptId);
      booked.set(attemptId, {
        kind: original?.kind ?? (Number(row["kind"]) as RecordKind),
        record: original?.record ?? (row["record"] as Uint8Array),
        baselineNanoUsd: original?.baselineNanoUsd ?? (row["baseline_nano_usd"] as bigint),
        reversed: original !== undefined,
      });
    }
    return booked;
  }

  async exportEntries(filter: EntryFilter, after: bigint): Promise<readonly Entry[]> {
    const where = ["sequence > ?"];
    const values: SQLInputValue[] = [after];
    const narrow = (condition: string, value: SQLInputValue | undefined): void => {
      if (value === undefined) return;
      where.push(condition);
      values.push(value);
    };
    narrow("started_at_us >= ?", filter.sinceMs === undefined ? undefined : microseconds(filter.sinceMs));
    narrow("started_at_us < ?", filter.untilMs === undefined ? undefined : microseconds(filter.untilMs));
    narrow("tenant = ?", filter.tenant);
    const sql = `SELECT sequence, part, booked_at_ms, record FROM entries WHERE ${where.join(" AND ")} ORDER BY sequence LIMIT ${EXPORT_BATCH_MAX}`;
    const rows = this.#open()
      .prepare(sql)
      .all(...values);
    return rows.map((row) =>
      entryOf(row["sequence"] as bigint, Number(row["part"]), Number(row["booked_at_ms"]), row["record"] as Uint8Array),
    );
  }

  async costs(query: CostQuery): Promise<readonly CostRow[]> {
    const { text, values } = costSql(query, DIALECT);
    const rows = this.#open()
      .prepare(text)
      .all(...values);
    return rows.map((row) => costRow(row, query.by.length));
  }

  async totals(): Promise<StoreTotals> {
    const row = this.#open().prepare(TOTALS).get()! as Record<string, bigint>;
    return { entries: row["entries"]!, costNanoUsd: row["cost"]!, duplicates: row["duplicates"]!, lastBookedAtMs: Number(row["last"]) };
  }

  async chain(after: bigint, limit: number): Promise<readonly ChainRow[]> {
    const rows = this.#open().prepare("SELECT * FROM entries WHERE sequence > ? ORDER BY sequence LIMIT ?").all(after, limit);
    return rows.map((columns) => ({
      sequence: columns["sequence"] as bigint,
      part: Number(columns["part"]),
      bookedAtMs: Number(columns["booked_at_ms"]),
      baselineNanoUsd: columns["baseline_nano_usd"] as bigint,
      record: columns["record"] as Uint8Array,
      hash: columns["hash"] as Uint8Array,
      columns,
    }));
  }

  async rollupSums(): Promise<RollupSums> {
    const check = this.#open().prepare(ROLLUP_CHECK);
    check.setReturnArrays(true);
    return rollupSumsOf(check.all() as unknown as unknown[][]);
  }

  async hourSums(fromHour: number, untilHour: number): Promise<readonly HourSum[]> {
    const rows = this.#open()
      .prepare(
        "SELECT backend, hour, SUM(cost_nano_usd) AS cost, SUM(idle_entries) AS idle FROM rollups WHERE hour >= ? AND hour < ? GROUP BY backend, hour",
      )
      .all(fromHour, untilHour);
    return rows.map((row) => ({
      backend: row["backend"] as string,
      hour: Number(row["hour"]),
      costNanoUsd: row["cost"] as bigint,
      idleEntries: row["idle"] as bigint,
    }));
  }

  async rentedSince(backends: readonly string[], nowMs: number): Promise<ReadonlyMap<string, number>> {
    return this.#transaction((database) => {
      const note = database.prepare("INSERT OR IGNORE INTO rents VALUES (?, ?)");
      for (const backend of backends) note.run(backend, Math.floor(nowMs));
      const rows = database.prepare("SELECT backend, since_ms FROM rents").all();
      return new Map(rows.map((row) => [row["backend"] as string, Number(row["since_ms"])]));
    });
  }

  async loadBudgets(keys: readonly string[]): Promise<readonly BudgetRow[]> {
    const read = this.#open().prepare("SELECT key, revision, state FROM budgets WHERE key = ?");
    return keys.flatMap((key) => read.all(key) as unknown as BudgetRow[]);
  }

  async saveBudgets(rows: readonly BudgetRow[]): Promise<boolean> {
    try {
      return this.#transaction((database) => {
        const add = database.prepare("INSERT OR IGNORE INTO budgets (revision, state, key) VALUES (?, ?, ?)");
        const replace = database.prepare("UPDATE budgets SET revision = ?, state = ? WHERE key = ? AND revision = ?");
        for (const { key, revision, state } of rows) {
          const { changes } = revision === 0n ? add.run(1n, state, key) : replace.run(revision + 1n, state, key, revision);
          if (Number(changes) !== 1) throw new Overtaken();
        }
        return true;
      });
    } catch (error) {
      if (error instanceof Overtaken) return false;
      throw error;
    }
  }

  async savePriceBook(version: string, book: Uint8Array, sinceMs: number): Promise<void> {
    this.#transaction((database) => {
      database.prepare("INSERT OR IGNORE INTO price_books VALUES (?, ?, ?)").run(version, Math.floor(sinceMs), book);
      database.prepare(notePeriodSql("?1", "?2")).run(Math.floor(sinceMs), version);
    });
  }

  async pricePeriods(fromMs: number): Promise<readonly StoredPricePeriod[]> {
    const rows = this.#open().prepare(periodsSql("?")).all(Math.floor(fromMs));
    return rows.map((row) => ({ sinceMs: Number(row["since_ms"]), version: row["version"] as string }));
  }

  async priceBook(version: string): Promise<Uint8Array | undefined> {
    return this.#open().prepare("SELECT book FROM price_books WHERE version = ?").get(version)?.["book"] as Uint8Array | undefined;
  }

  async loadObservations(): Promise<readonly ObservationRow[]> {
    const rows = this.#open().prepare("SELECT experiment, source, run, at_ms, state FROM observations").all();
    return rows.map((row) => ({
      experiment: row["experiment"] as string,
      source: row["source"] as string,
      run: row["run"] as string,
      atMs: Number(row["at_ms"]),
      state: row["state"] as string,
    }));
  }

  async saveObservations(rows: readonly ObservationRow[]): Promise<void> {
    this.#transaction((database) => {
      const put = database.prepare("INSERT OR REPLACE INTO observations VALUES (?, ?, ?, ?, ?)");
      for (const { experiment, source, run, atMs, state } of rows) put.run(experiment, source, run, Math.floor(atMs), state);
    });
  }

  async dropObservations(experiment: string, source: string): Promise<void> {
    this.#open().prepare("DELETE FROM observations WHERE experiment = ? AND source = ?").run(experiment, source);
  }

  async loadControl(): Promise<StoredControl | undefined> {
    const row = this.#open().prepare("SELECT revision, state FROM control").get();
    return row && { revision: row["revision"] as bigint, state: row["state"] as Uint8Array };
  }

  async saveControl(expected: bigint, next: StoredControl): Promise<boolean> {
    const sql =
      expected === 0n
        ? "INSERT OR IGNORE INTO control (revision, state, id) VALUES (?, ?, 1)"
        : "UPDATE control SET revision = ?, state = ? WHERE revision = ?";
    const values = expected === 0n ? [next.revision, next.state] : [next.revision, next.state, expected];
    return (
      Number(
        this.#open()
          .prepare(sql)
          .run(...values).changes,
      ) === 1
    );
  }

  async findAnswer(tenant: string, responseId: string): Promise<AnswerRow | undefined> {
    return findAnswer(this.#open(), tenant, responseId);
  }

  async forgetAnswers(beforeMs: number): Promise<void> {
    this.#open().prepare("DELETE FROM answers WHERE booked_at_ms < ?").run(Math.floor(beforeMs));
  }

  async saveScore(score: ScoreRow): Promise<Replaced> {
    return this.#transaction((database) => putScore(database, score));
  }

  async scoreSums(experiment: string): Promise<readonly ScoreSums[]> {
    return sumScores(this.#open(), experiment);
  }

  async stop(): Promise<void> {
    this.#database?.close();
    this.#database = undefined;
  }

  #open(): DatabaseSync {
    if (this.#database === undefined) throw storeUnavailable(new Error("closed"));
    return this.#database;
  }

  #transaction<T>(work: (database: DatabaseSync) => T): T {
    const database = this.#open();
    database.exec("BEGIN IMMEDIATE");
    try {
      const result = work(database);
      database.exec("COMMIT");
      return result;
    } catch (error) {
      if (database.isTransaction) database.exec("ROLLBACK");
      throw error;
    }
  }
}

function chainEnd(database: DatabaseSync): ChainEnd {
  const row = database.prepare("SELECT sequence, hash FROM entries ORDER BY sequence DESC LIMIT 1").get();
  return row ? { sequence: row["sequence"] as bigint, hash: row["hash"] as Uint8Array } : CHAIN_START;
}
