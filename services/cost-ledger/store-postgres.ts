import pg from "pg";
import type { CostRow } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import type { Entry, RecordKind } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { Clock, Timer } from "#libs/clock/index.ts";
import type { CostQuery, EntryFilter } from "#libs/peers/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import { COLUMNS, type ColumnValue } from "./columns.ts";
import { costRow, costSql, microseconds, type SqlDialect } from "./cost-query.ts";
import { CHAIN_START, entryOf, planEntries, type BookedAttempt, type ChainEnd, type PricedRecord } from "./entries/index.ts";
import { MIGRATIONS } from "./postgres-migrations.ts";
import {
  EXPORT_BATCH_MAX,
  storeUnavailable,
  type Booked,
  type ChainRow,
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
const RETRY_MAX_MS = 3_000;
/** Advisory locks of this program: one writer of entries, one migrator, over all processes. */
const WRITER_LOCK = 7_201_001;
const MIGRATION_LOCK = 7_201_002;
/** SQLSTATE classes that say the server is leaving or gone: 08 connection, 57 operator intervention, 53 resources. */
const AWAY = /^(08|57|53)/;

const DIALECT: SqlDialect = {
  parameter: (number) => `$${number}`,
  day: "to_char(to_timestamp(started_at_us / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
  hour: `to_char(to_timestamp(started_at_us / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24":00:00Z"')`,
  tag: (key) => `COALESCE(tags ->> ${key}::text, '')`,
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
  #stopped = false;
  #retryMs = RETRY_MS;
  #retryTimer: Timer | undefined;
  /** Bookings one after the other: the advisory lock would serialise them anyway, holding connections. */
  #writing: Promise<unknown> = Promise.resolve();

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
      application_name: "signalbox",
      allowExitOnIdle: true,
    });
    this.#pool.on("error", (error) => this.#lost(error));
  }

  get up(): boolean {
    return this.#up;
  }

  onChange(listener: (up: boolean) => void): void {
    this.#listeners.push(listener);
  }

  async start(): Promise<void> {
    await this.#connect();
  }

  book(records: readonly PricedRecord[], nowMs: number): Promise<Booked> {
    const booking = this.#writing.then(() => this.#transaction((client) => bookBatch(client, records, nowMs)));
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
    return (await this.#query(text, [...values])).map((row) => costRow(row, query.by.length));
  }

  async totals(): Promise<StoreTotals> {
    const [row] = await this.#query(
      `SELECT COUNT(*)::text AS entries, COALESCE(SUM(cost_nano_usd), 0)::text AS cost, COALESCE(MAX(booked_at_ms), 0)::text AS last,
         (SELECT value FROM counters WHERE name = 'duplicates')::text AS duplicates FROM entries`,
      [],
    );
    const number = (name: string): bigint => BigInt(row![name] as string);
    return {
      entries: number("entries"),
      costNanoUsd: number("cost"),
      duplicates: number("duplicates"),
      lastBookedAtMs: Number(row!["last"]),
    };
  }

  async chain(after: bigint, limit: number): Promise<readonly ChainRow[]> {
    const rows = await this.#query(
      "SELECT sequence, part, sign, attempt_id, tenant, cost_nano_usd, record, hash FROM entries WHERE sequence > $1 ORDER BY sequence LIMIT $2",
      [after, limit],
    );
    return rows.map((row) => ({
      sequence: BigInt(row["sequence"] as string),
      part: row["part"] as number,
      sign: row["sign"] as number,
      attemptId: row["attempt_id"] as string,
      tenant: row["tenant"] as string,
      costNanoUsd: BigInt(row["cost_nano_usd"] as string),
      record: row["record"] as Uint8Array,
      hash: row["hash"] as Uint8Array,
    }));
  }

  async savePriceBook(version: string, book: Uint8Array, nowMs: number): Promise<void> {
    await this.#query("INSERT INTO price_books VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", [
      version,
      Math.floor(nowMs),
      Buffer.from(book),
    ]);
  }

  async priceBook(version: string): Promise<Uint8Array | undefined> {
    const [row] = await this.#query("SELECT book FROM price_books WHERE version = $1", [version]);
    return row?.["book"] as Uint8Array | undefined;
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

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#retryTimer?.cancel();
    await this.#writing;
    await this.#pool.end();
  }

  /** Migrates and is up, or tries again later. Never rejects: the service starts degraded. */
  async #connect(): Promise<void> {
    try {
      const client = await this.#pool.connect();
      try {
        await migrate(client);
      } finally {
        client.release();
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

  async #transaction<T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
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
      throw this.#classified(error);
    }
  }

  #classified(error: unknown): Error {
    const code = (error as { code?: unknown }).code;
    const isSqlState = typeof code === "string" && /^[0-9A-Z]{5}$/.test(code);
    if (!isSqlState || AWAY.test(code)) this.#lost(error);
    return storeUnavailable(error);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function migrate(client: pg.PoolClient): Promise<void> {
  await client.query("BEGIN");
  try {
    await client.query("SELECT pg_advisory_xact_lock($1)", [MIGRATION_LOCK]);
    await client.query("CREATE TABLE IF NOT EXISTS schema_version (version int4 NOT NULL)");
    const { rows } = await client.query<{ version: number }>("SELECT version FROM schema_version");
    const version = rows[0]?.version ?? 0;
    if (version < MIGRATIONS.length) {
      for (const migration of MIGRATIONS.slice(version)) await client.query(migration);
      await client.query("DELETE FROM schema_version");
      await client.query("INSERT INTO schema_version VALUES ($1)", [MIGRATIONS.length]);
    }
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK").catch(() => undefined);
    throw error;
  }
}

const INSERT = `INSERT INTO entries (${COLUMNS.map(({ name }) => name).join(", ")})
  SELECT * FROM unnest(${COLUMNS.map(({ postgres }, index) => `$${index + 1}::${postgres}[]`).join(", ")})`;

async function bookBatch(client: pg.PoolClient, records: readonly PricedRecord[], nowMs: number): Promise<Booked> {
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
