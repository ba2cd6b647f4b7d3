import pg from "pg";
import type { CostRow } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import type { Entry } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { Clock, Timer } from "#libs/clock/index.ts";
import type { CostQuery, EntryFilter } from "#libs/peers/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import { costRow, costSql, microseconds, type SqlDialect } from "./cost-query.ts";
import { entryOf, type PricedRecord } from "./entries/index.ts";
import { notePeriodSql, periodsSql, type StoredPricePeriod } from "./price-periods.ts";
import { TOTALS } from "./rollups.ts";
import { ROLLUP_CHECK, rollupSumsOf, type RollupSums } from "./rollup-check.ts";
import { QUERY_CANCELED, ReportLanes, reportQuery, tookTooLong } from "./postgres-reports.ts";
import { bookBatch, EntryRows, saveBudgetRows } from "./postgres-booking.ts";
import { makeWriterRole, migrate, WRITER_ROLE } from "./postgres-migrate.ts";
import { ALL_OBSERVATIONS, observationColumns, observationRow, SAVE_OBSERVATIONS } from "./experiments/postgres-rows.ts";
import type { ObservationRow } from "./experiments/source-rows.ts";
import type { AnswerRow, Replaced, ScoreRow, ScoreSums } from "./scores/answers.ts";
import { answerRow, FIND_ANSWER, putScore, SUM_SCORES, sumsRow } from "./scores/postgres-scores.ts";
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

/** Connections: one books, the others read. */
const CONNECTIONS_MAX = 4;
/** A server that does not accept within this is away. */
const CONNECT_TIMEOUT_MS = 3_000;
/** A statement that takes longer is given up, by the server and, a little later, by the client. */
const STATEMENT_TIMEOUT_MS = 15_000;
const QUERY_TIMEOUT_MS = 17_000;
/** Between attempts to reach a server that is away; doubles up to the maximum, so that healing takes at most some seconds. */
const RETRY_MS = 250;
const RETRY_MAX_MS = 500;
/** Longest start, ms: a server that answers slowly or not at all is waited for behind the scenes. */
const START_WAIT_MS = 3_000;
/** Longest statement of a migration, ms: indexes over a large ledger take minutes, and a dead server must not be waited for for ever. */
const MIGRATION_TIMEOUT_MS = 600_000;
/** Silence after which a connection is probed, ms: one whose server vanished is noticed within seconds. */
const KEEP_ALIVE_MS = 5_000;
/** SQLSTATE classes that say the server is leaving or gone: 08 connection, 57 operator intervention, 53 resources. */
const AWAY = /^(08|57|53)/;

const DIALECT: SqlDialect = {
  parameter: (number) => `$${number}`,
  day: "to_char(to_timestamp(hour * 3600) AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
  hour: `to_char(to_timestamp(hour * 3600) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24":00:00Z"')`,
  month: "to_char(to_timestamp(hour * 3600) AT TIME ZONE 'UTC', 'YYYY-MM')",
  tag: (key) => `COALESCE(tags ->> ${key}::text, '')`,
  tags: "tags::text",
  tagKey: (name) => name,
};

/** What the store needs. */
export interface PostgresStoreDeps {
  /** Connection string; may hold a password, so it is never logged. */
  readonly url: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The ledger in PostgreSQL. Connects behind the scenes and again after every loss. */
export function createPostgresStore(deps: PostgresStoreDeps): LedgerStore {
  return new PostgresStore(deps);
}

class PostgresStore implements LedgerStore {
  readonly kind = "postgres";
  readonly #deps: PostgresStoreDeps;
  readonly #pool: pg.Pool;
  readonly #listeners: ((up: boolean) => void)[] = [];
  #up = false;
  /** Whether connections work as the role that cannot change entries. */
  #hasRole = false;
  #stopped = false;
  #retryMs = RETRY_MS;
  #retryTimer: Timer | undefined;
  /** Bookings one after the other: the advisory lock would serialise them anyway, holding connections. */
  #writing: Promise<unknown> = Promise.resolve();
  readonly #entryRows = new EntryRows();
  readonly #reports = new ReportLanes((work) => this.#transaction(work, true));

  constructor(deps: PostgresStoreDeps) {
    this.#deps = deps;
    this.#pool = new pg.Pool({
      connectionString: deps.url,
      max: CONNECTIONS_MAX,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      statement_timeout: STATEMENT_TIMEOUT_MS,
      query_timeout: QUERY_TIMEOUT_MS,
      idle_in_transaction_session_timeout: STATEMENT_TIMEOUT_MS,
      keepAlive: true,
      keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
      application_name: "signalbox",
      allowExitOnIdle: true,
      // oxlint-disable-next-line typescript/no-misused-promises -- pg-pool waits for the promise; its types do not say so
      onConnect: async (client) => {
        if (this.#hasRole) await client.query(`SET ROLE ${WRITER_ROLE}`);
      },
    });
    this.#pool.on("error", (error) => this.#lost(error));
  }

  get appendOnly(): "trigger" | "role and trigger" {
    return this.#hasRole ? "role and trigger" : "trigger";
  }

  get up(): boolean {
    return this.#up;
  }

  onChange(listener: (up: boolean) => void): void {
    this.#listeners.push(listener);
  }

  async start(): Promise<void> {
    const giveUp = new AbortController();
    const waiting = this.#deps.clock.sleep(START_WAIT_MS, giveUp.signal).catch(() => undefined);
    await Promise.race([this.#connect(), waiting]);
    giveUp.abort();
  }

  book(records: readonly PricedRecord[], nowMs: number): Promise<Booked> {
    const booking = this.#writing.then(() => this.#transaction((client) => bookBatch(client, this.#entryRows, records, nowMs)));
    this.#writing = booking.catch(() => undefined);
    return booking;
  }

  async exportEntries(filter: EntryFilter, after: bigint): Promise<readonly Entry[]> {
    const rows = await this.#query(
      `SELECT sequence, part, booked_at_ms, record FROM entries
       WHERE sequence > $1 AND ($2::int8 IS NULL OR started_at_us >= $2) AND ($3::int8 IS NULL OR started_at_us < $3)
         AND ($4::text IS NULL OR tenant = $4) ORDER BY sequence LIMIT ${EXPORT_BATCH_MAX}`,
      [
        after,
        filter.sinceMs === undefined ? null : microseconds(filter.sinceMs),
        filter.untilMs === undefined ? null : microseconds(filter.untilMs),
        filter.tenant ?? null,
      ],
    );
    return rows.map((row) =>
      entryOf(BigInt(row["sequence"] as string), row["part"] as number, Number(row["booked_at_ms"]), row["record"] as Uint8Array),
    );
  }

  async costs(query: CostQuery): Promise<readonly CostRow[]> {
    const { text, values } = costSql(query, DIALECT);
    const rows = await this.#reports.read((client) => client.query<Record<string, unknown>>(reportQuery(text, values)));
    return rows.map((row) => costRow(row, query.by.length));
  }

  async totals(): Promise<StoreTotals> {
    const [row] = await this.#query(TOTALS, []);
    const number = (name: string): bigint => BigInt(row![name] as string);
    return {
      entries: number("entries"),
      costNanoUsd: number("cost"),
      duplicates: number("duplicates"),
      lastBookedAtMs: Number(row!["last"]),
    };
  }

  async chain(after: bigint, limit: number): Promise<readonly ChainRow[]> {
    const rows = await this.#query("SELECT * FROM entries WHERE sequence > $1 ORDER BY sequence LIMIT $2", [after, limit]);
    return rows.map((columns) => ({
      sequence: BigInt(columns["sequence"] as string),
      part: columns["part"] as number,
      bookedAtMs: Number(columns["booked_at_ms"]),
      baselineNanoUsd: BigInt(columns["baseline_nano_usd"] as string),
      record: columns["record"] as Uint8Array,
      hash: columns["hash"] as Uint8Array,
      columns,
    }));
  }

  async rollupSums(): Promise<RollupSums> {
    // Columns without a name of their own have none to be found by.
    return rollupSumsOf(
      await this.#reports.read((client) => client.query<unknown[]>({ ...reportQuery(ROLLUP_CHECK, []), rowMode: "array" })),
    );
  }

  async hourSums(fromHour: number, untilHour: number): Promise<readonly HourSum[]> {
    const rows = await this.#query(
      "SELECT backend, hour, SUM(cost_nano_usd)::text AS cost, SUM(idle_entries)::text AS idle FROM rollups WHERE hour >= $1 AND hour < $2 GROUP BY backend, hour",
      [fromHour, untilHour],
    );
    return rows.map((row) => ({
      backend: row["backend"] as string,
      hour: Number(row["hour"]),
      costNanoUsd: BigInt(row["cost"] as string),
      idleEntries: BigInt(row["idle"] as string),
    }));
  }

  async rentedSince(backends: readonly string[], nowMs: number): Promise<ReadonlyMap<string, number>> {
    await this.#query("INSERT INTO rents SELECT backend, $2 FROM unnest($1::text[]) AS backend ON CONFLICT DO NOTHING", [
      backends,
      Math.floor(nowMs),
    ]);
    const rows = await this.#query("SELECT backend, since_ms FROM rents", []);
    return new Map(rows.map((row) => [row["backend"] as string, Number(row["since_ms"])]));
  }

  async loadBudgets(keys: readonly string[]): Promise<readonly BudgetRow[]> {
    const rows = await this.#query("SELECT key, revision, state FROM budgets WHERE key = ANY($1::text[])", [keys]);
    return rows.map((row) => ({ key: row["key"] as string, revision: BigInt(row["revision"] as string), state: row["state"] as string }));
  }

  async saveBudgets(rows: readonly BudgetRow[]): Promise<boolean> {
    try {
      await this.#transaction((client) => saveBudgetRows(client, rows));
      return true;
    } catch (error) {
      if (error instanceof Overtaken) return false;
      throw error;
    }
  }

  async savePriceBook(version: string, book: Uint8Array, sinceMs: number): Promise<void> {
    const since = Math.floor(sinceMs);
    await this.#query("INSERT INTO price_books VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", [version, since, Buffer.from(book)]);
    await this.#query(notePeriodSql("$1::int8", "$2::text"), [since, version]);
  }

  async pricePeriods(fromMs: number): Promise<readonly StoredPricePeriod[]> {
    const rows = await this.#query(periodsSql("$1::int8"), [Math.floor(fromMs)]);
    return rows.map((row) => ({ sinceMs: Number(row["since_ms"]), version: row["version"] as string }));
  }

  async priceBook(version: string): Promise<Uint8Array | undefined> {
    const [row] = await this.#query("SELECT book FROM price_books WHERE version = $1", [version]);
    return row?.["book"] as Uint8Array | undefined;
  }

  async loadObservations(): Promise<readonly ObservationRow[]> {
    return (await this.#query(ALL_OBSERVATIONS, [])).map(observationRow);
  }

  async saveObservations(rows: readonly ObservationRow[]): Promise<void> {
    await this.#query(SAVE_OBSERVATIONS, observationColumns(rows));
  }

  async dropObservations(experiment: string, source: string): Promise<void> {
    await this.#query("DELETE FROM observations WHERE experiment = $1 AND source = $2", [experiment, source]);
  }

  async loadControl(): Promise<StoredControl | undefined> {
    const [row] = await this.#query("SELECT revision, state FROM control", []);
    return row && { revision: BigInt(row["revision"] as string), state: row["state"] as Uint8Array };
  }

  async saveControl(expected: bigint, next: StoredControl): Promise<boolean> {
    const state = Buffer.from(next.state);
    const rows =
      expected === 0n
        ? await this.#query("INSERT INTO control (id, revision, state) VALUES (1, $1, $2) ON CONFLICT DO NOTHING RETURNING id", [
            next.revision,
            state,
          ])
        : await this.#query("UPDATE control SET revision = $1, state = $2 WHERE revision = $3 RETURNING id", [
            next.revision,
            state,
            expected,
          ]);
    return rows.length === 1;
  }

  async findAnswer(tenant: string, responseId: string): Promise<AnswerRow | undefined> {
    const [row] = await this.#query(FIND_ANSWER, [tenant, responseId]);
    return row && answerRow(tenant, responseId, row);
  }

  async forgetAnswers(beforeMs: number): Promise<void> {
    await this.#query("DELETE FROM answers WHERE booked_at_ms < $1", [Math.floor(beforeMs)]);
  }

  saveScore(score: ScoreRow): Promise<Replaced> {
    return this.#transaction((client) => putScore(client, score));
  }

  async scoreSums(experiment: string): Promise<readonly ScoreSums[]> {
    return (await this.#query(SUM_SCORES, [experiment])).map(sumsRow);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#retryTimer?.cancel();
    await this.#writing;
    await this.#pool.end();
  }

  /** Migrates and is up, or tries again later. Never rejects: the service starts degraded. */
  async #connect(): Promise<void> {
    const owner = new pg.Client({
      connectionString: this.#deps.url,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      query_timeout: MIGRATION_TIMEOUT_MS,
      keepAlive: true,
      keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
      application_name: "signalbox",
    });
    // A connection that breaks while it migrates says so through its query.
    owner.on("error", () => undefined);
    try {
      try {
        await owner.connect();
        await migrate(owner);
        this.#hasRole = await makeWriterRole(owner);
      } finally {
        await owner.end().catch(() => undefined);
      }
      this.#retryMs = RETRY_MS;
      this.#setUp(true);
    } catch (error) {
      this.#deps.logger.warn({ error: messageOf(error), retry_ms: this.#retryMs }, "the ledger's PostgreSQL is away");
      this.#retryLater();
    }
  }

  #retryLater(): void {
    if (this.#stopped || this.#retryTimer !== undefined) return;
    this.#retryTimer = this.#deps.clock.after(this.#retryMs, () => {
      this.#retryTimer = undefined;
      void this.#connect();
    });
    this.#retryMs = Math.min(RETRY_MAX_MS, this.#retryMs * 2);
  }

  #lost(error: unknown): void {
    if (this.#up) this.#deps.logger.warn({ error: messageOf(error) }, "the ledger's PostgreSQL was lost");
    this.#setUp(false);
    this.#retryLater();
  }

  #setUp(up: boolean): void {
    if (up === this.#up) return;
    this.#up = up;
    for (const listener of this.#listeners) listener(up);
  }

  async #query(text: string, values: readonly unknown[]): Promise<Record<string, unknown>[]> {
    if (!this.#up) throw storeUnavailable(new Error("not connected"));
    try {
      return (await this.#pool.query<Record<string, unknown>>(text, [...values])).rows;
    } catch (error) {
      throw this.#classified(error);
    }
  }

  async #transaction<T>(work: (client: pg.PoolClient) => Promise<T>, isReport = false): Promise<T> {
    if (!this.#up) throw storeUnavailable(new Error("not connected"));
    let client: pg.PoolClient | undefined;
    try {
      client = await this.#pool.connect();
      await client.query("BEGIN");
      const result = await work(client);
      await client.query("COMMIT");
      client.release();
      return result;
    } catch (error) {
      // A connection whose transaction failed half-way is not worth saving.
      client?.release(true);
      throw this.#classified(error, isReport);
    }
  }

  #classified(error: unknown, isReport = false): Error {
    if (error instanceof Overtaken) return error;
    const code = (error as { code?: unknown }).code;
    if (isReport && code === QUERY_CANCELED) return tookTooLong(error);
    const isSqlState = typeof code === "string" && /^[0-9A-Z]{5}$/.test(code);
    if (!isSqlState || AWAY.test(code)) this.#lost(error);
    return storeUnavailable(error);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
