import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Worker } from "node:worker_threads";
import { test, type TestContext } from "node:test";
import { systemClock } from "#libs/clock/index.ts";
import { SqliteDatabase } from "./sqlite-database.ts";
import { createSqliteStore } from "./store-sqlite.ts";
import { posted, storeContract } from "./store.contract.ts";
import { sumsContract } from "./sums.contract.ts";

function temporaryFile(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "signalbox-ledger-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "nested", "ledger.db");
}

storeContract(
  "sqlite on this thread",
  async (t) => {
    const store = new SqliteDatabase(temporaryFile(t));
    await store.start();
    return store;
  },
  false,
);

storeContract(
  "sqlite",
  async (t) => {
    const store = createSqliteStore(temporaryFile(t), systemClock);
    await store.start();
    return store;
  },
  false,
);

sumsContract(
  "sqlite",
  async (t) => {
    const path = temporaryFile(t);
    const store = new SqliteDatabase(path);
    await store.start();
    t.after(() => store.stop());
    const raw = new DatabaseSync(path);
    t.after(() => raw.close());
    raw.exec("DROP TRIGGER entries_no_update; DROP TRIGGER entries_no_delete; PRAGMA synchronous = OFF");
    return { store, tamper: async (sql) => raw.exec(sql) };
  },
  false,
  8,
);

test("sqlite: entries survive a restart and refuse to be changed", async (t) => {
  const path = temporaryFile(t);
  const first = createSqliteStore(path, systemClock);
  await first.start();
  await first.book([posted("a1")], 1);
  await first.stop();
  await assert.rejects(async () => first.totals(), { code: "ledger_unavailable" });
  const second = createSqliteStore(path, systemClock);
  await second.start();
  t.after(() => second.stop());
  assert.equal((await second.totals()).entries, 1n);
  const raw = new DatabaseSync(path);
  t.after(() => raw.close());
  assert.throws(() => raw.exec("UPDATE entries SET cost_nano_usd = 0"), /append-only/);
  assert.throws(() => raw.exec("DELETE FROM entries"), /append-only/);
});

test("sqlite: a file that cannot be a database is refused at the start", async (t) => {
  await assert.rejects(createSqliteStore("/dev/null/ledger.db", systemClock).start());
  const path = temporaryFile(t);
  assert.equal(createSqliteStore(path, systemClock).up, false);
});

test("sqlite: a thread that dies loses nothing that was booked, and another takes its place", async (t) => {
  const threads: Worker[] = [];
  const note = (worker: Worker): void => void threads.push(worker);
  process.on("worker", note);
  t.after(() => process.off("worker", note));
  const store = createSqliteStore(temporaryFile(t), systemClock);
  await store.start();
  t.after(() => store.stop());
  await store.book([posted("a1")], 1);
  const changes: boolean[] = [];
  const back = new Promise<void>((resolve) => {
    store.onChange((up) => {
      changes.push(up);
      if (up) resolve();
    });
  });
  await threads[0]!.terminate();
  await assert.rejects(store.totals(), { code: "ledger_unavailable" });
  await back;
  assert.deepEqual([changes, threads.length], [[false, true], 2]);
  assert.equal((await store.book([posted("a1"), posted("a2")], 2)).entries, 1);
});
