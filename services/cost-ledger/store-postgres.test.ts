import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import pg from "pg";
import { systemClock } from "#libs/clock/index.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { postgresMissing, startPostgres, type Postgres } from "#test/support/postgres.ts";
import { createPostgresStore } from "./store-postgres.ts";
import { posted, storeContract } from "./store.contract.ts";
import { sumsContract } from "./sums.contract.ts";
import type { LedgerStore } from "./store.ts";

const skip = postgresMissing() ?? false;
let server: Postgres;

before(async () => {
  if (skip === false) server = await startPostgres();
});
after(() => server?.remove());

let databases = 0;

/** An empty database of its own. */
async function freshUrl(): Promise<string> {
  const name = `ledger${++databases}`;
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  await client.query(`CREATE DATABASE ${name}`);
  await client.end();
  return server.url.replace(/postgres$/, name);
}

async function open(url: string): Promise<LedgerStore> {
  const store = createPostgresStore({ url, clock: systemClock, logger: silentLogger });
  await store.start();
  return store;
}

/** Resolves when the store is up, or down. */
function becomes(store: LedgerStore, up: boolean): Promise<void> {
  if (store.up === up) return Promise.resolve();
  return new Promise((resolve) => store.onChange((now) => now === up && resolve()));
}

storeContract("postgres", async () => open(await freshUrl()), skip);

sumsContract(
  "postgres",
  async (t) => {
    const url = await freshUrl();
    const store = await open(url);
    t.after(() => store.stop());
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    t.after(() => client.end());
    await client.query("DROP TRIGGER entries_append_only ON entries; SET synchronous_commit = off");
    return { store, tamper: async (sql) => void (await client.query(sql)) };
  },
  skip,
  2,
);

test("postgres: entries refuse to be changed", { skip }, async (t) => {
  const url = await freshUrl();
  const store = await open(url);
  t.after(() => store.stop());
  await store.book([posted("a1")], 1);
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  t.after(() => client.end());
  for (const sql of ["UPDATE entries SET cost_nano_usd = 0", "DELETE FROM entries", "TRUNCATE entries"]) {
    await assert.rejects(client.query(sql), /append-only/);
  }
});

test("postgres: two ledgers on one database book every attempt once", { skip }, async (t) => {
  const url = await freshUrl();
  const stores = await Promise.all([open(url), open(url)]);
  t.after(() => Promise.all(stores.map((store) => store.stop())));
  const batches = Array.from({ length: 20 }, (_, batch) => Array.from({ length: 10 }, (_, number) => posted(`a${batch * 5 + number}`)));
  await Promise.all(batches.flatMap((batch) => stores.map((store) => store.book(batch, 1))));
  assert.equal((await stores[0]!.totals()).entries, 105n);
  assert.equal((await stores[1]!.chain(0n, 1_000)).at(-1)!.sequence, 105n);
});

test("postgres: a crash of the server refuses bookings whole, and the store heals by itself", { skip }, async (t) => {
  const own = await startPostgres();
  t.after(() => own.remove());
  const store = await open(own.url);
  t.after(() => store.stop());
  await store.book([posted("a1")], 1);
  const down = becomes(store, false);
  await own.stop("immediate");
  await assert.rejects(store.book([posted("a2")], 2), { code: "ledger_unavailable" });
  await down;
  await assert.rejects(store.totals(), { code: "ledger_unavailable" });
  await own.start();
  await becomes(store, true);
  assert.equal((await store.book([posted("a1"), posted("a2")], 3)).entries, 1);
  assert.equal((await store.totals()).entries, 2n);
});

test("postgres: starts degraded without a server and is up when it comes", { skip }, async (t) => {
  const own = await startPostgres();
  t.after(() => own.remove());
  await own.stop("fast");
  const store = await open(own.url);
  t.after(() => store.stop());
  assert.equal(store.up, false);
  await own.start();
  await becomes(store, true);
  assert.equal((await store.totals()).entries, 0n);
});

test(
  "postgres: the ledger works as a role that cannot change entries, so that append-only does not hang on a trigger",
  { skip },
  async (t) => {
    const url = await freshUrl();
    const store = await open(url);
    t.after(() => store.stop());
    assert.equal(store.appendOnly, "role and trigger");
    await store.book([posted("a1")], 1);
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    t.after(() => client.end());
    await client.query("DROP TRIGGER entries_append_only ON entries");
    await client.query("SET ROLE signalbox_ledger_writer");
    for (const sql of ["UPDATE entries SET cost_nano_usd = 0", "DELETE FROM entries", "TRUNCATE entries", "DROP TABLE entries"]) {
      await assert.rejects(client.query(sql), { code: "42501" });
    }
  },
);

test("fault: a report that took too long made the ledger say that its store is away", { skip }, async (t) => {
  const url = await freshUrl();
  const store = await open(url);
  t.after(() => store.stop());
  await store.book([posted("a1")], 1);
  const other = new pg.Client({ connectionString: url });
  await other.connect();
  t.after(() => other.end());
  await other.query("BEGIN; LOCK TABLE rollup_days, rollups IN ACCESS EXCLUSIVE MODE");
  const reports = [store.costs({ by: ["team"] }), store.costs({ by: ["team"] }), store.costs({ by: ["team"] })];
  const refused = Promise.all(reports.slice(0, 2).map((report) => assert.rejects(report, { reason: "DEADLINE_EXCEEDED" })));
  // A transaction sees the list of statements as it first read it: another connection looks.
  const watcher = new pg.Client({ connectionString: url });
  await watcher.connect();
  t.after(() => watcher.end());
  const { rows } = await waiting(watcher);
  // Reports wait for two connections of four, whatever happens to them.
  assert.equal((await store.exportEntries({}, 0n)).length, 1);
  for (const { pid } of rows) await other.query("SELECT pg_cancel_backend($1)", [pid]);
  await refused;
  assert.equal(store.up, true);
  await other.query("COMMIT");
  assert.equal((await reports[2])!.length, 1);
});

/** The statements that wait for a lock, when there are two of them. */
async function waiting(client: pg.Client): Promise<pg.QueryResult<{ pid: number }>> {
  for (;;) {
    const found = await client.query<{ pid: number }>(
      "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()",
    );
    if (found.rows.length === 2) return found;
  }
}

test("postgres: a login that may not make roles still books, with the trigger alone", { skip }, async (t) => {
  const url = await freshUrl();
  const admin = new pg.Client({ connectionString: url });
  await admin.connect();
  t.after(() => admin.end());
  await admin.query("CREATE ROLE plain LOGIN");
  await admin.query("REVOKE signalbox_ledger_writer FROM plain").catch(() => undefined);
  await admin.query("GRANT ALL ON SCHEMA public TO plain");
  const store = await open(url.replace(/\/\/[^@/]*@?/, "//plain@"));
  t.after(() => store.stop());
  assert.equal(store.appendOnly, "trigger");
  assert.equal((await store.book([posted("a1")], 1)).entries, 1);
});
