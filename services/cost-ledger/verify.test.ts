import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test, type TestContext } from "node:test";
import { create } from "@bufbuild/protobuf";
import { InvoiceLineSchema } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import { SeededRandom } from "#libs/clock/fake.ts";
import { RecordKind } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { reconcileInvoice } from "./reconcile.ts";
import { SqliteDatabase } from "./sqlite-database.ts";
import { posted } from "./store.contract.ts";
import { verifyLedger } from "./verify.ts";

const ROWS = 60;

async function ledger(t: TestContext): Promise<{ store: SqliteDatabase; tamper: (sql: string) => void }> {
  const directory = mkdtempSync(join(tmpdir(), "signalbox-verify-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "ledger.db");
  const store = new SqliteDatabase(path);
  await store.start();
  t.after(() => store.stop());
  await store.book(
    [posted("e1", { kind: RecordKind.EXPIRE }), ...Array.from({ length: ROWS - 3 }, (_, number) => posted(`a${number}`))],
    1,
  );
  await store.book([posted("e1")], 2);
  const tamper = (sql: string): void => {
    const raw = new DatabaseSync(path);
    raw.exec("DROP TRIGGER IF EXISTS entries_no_update; DROP TRIGGER IF EXISTS entries_no_delete");
    raw.exec(sql);
    raw.close();
  };
  return { store, tamper };
}

test("an untouched ledger verifies, reversals included", async (t) => {
  const { store } = await ledger(t);
  const report = await verifyLedger(store);
  assert.deepEqual([report.entries, report.problems], [BigInt(ROWS), []]);
  assert.match(report.head, /^[0-9a-f]{64}$/);
});

test("any one row changed or removed is found and named", async (t) => {
  const random = new SeededRandom(4);
  const changes = [
    (row: number) => `UPDATE entries SET cost_nano_usd = cost_nano_usd + 1 WHERE sequence = ${row}`,
    (row: number) => `UPDATE entries SET tenant = 'other' WHERE sequence = ${row}`,
    (row: number) => `UPDATE entries SET record = record || x'00' WHERE sequence = ${row}`,
    (row: number) => `UPDATE entries SET sign = -sign WHERE sequence = ${row}`,
    (row: number) => `DELETE FROM entries WHERE sequence = ${row}`,
  ];
  for (const [index, change] of changes.entries()) {
    const { store, tamper } = await ledger(t);
    const row = 2 + random.int(ROWS - 2);
    tamper(change(row));
    const { problems } = await verifyLedger(store);
    const named = index === 4 ? BigInt(row + 1) : BigInt(row);
    assert.ok(
      problems.some((problem) => problem.sequence === named),
      `change ${index} of row ${row}`,
    );
  }
});

test("an invoice is compared with the ledger attempt by attempt", async (t) => {
  const store = new SqliteDatabase(":memory:");
  await store.start();
  t.after(() => store.stop());
  await store.book(
    [
      posted("same", { costNanoUsd: 10n }),
      posted("dearer", { costNanoUsd: 10n }),
      posted("guessed", { costNanoUsd: 10n, estimated: true }),
      posted("unknown", { costNanoUsd: 10n }),
      posted("free", { costNanoUsd: 0n }),
      posted("late", { kind: RecordKind.EXPIRE, costNanoUsd: 99n, estimated: true }),
    ],
    1,
  );
  await store.book([posted("late", { costNanoUsd: 7n })], 2);
  const invoice = [
    { attemptId: "same", costNanoUsd: 4n },
    { attemptId: "same", costNanoUsd: 6n },
    { attemptId: "dearer", costNanoUsd: 11n },
    { attemptId: "guessed", costNanoUsd: 8n },
    { attemptId: "ghost", costNanoUsd: 5n },
    { attemptId: "late", costNanoUsd: 7n },
    { attemptId: "", costNanoUsd: 3n },
  ];
  const lines = invoice.map((line) => create(InvoiceLineSchema, line));
  const { differences, sums } = reconcileInvoice(lines, await store.exportEntries({}, 0n), () => undefined, 0);
  assert.deepEqual(
    differences.map(({ attemptId, kind }) => [attemptId, kind]),
    [
      ["ghost", "not_booked"],
      ["dearer", "amount"],
      ["guessed", "estimated"],
      ["unknown", "not_invoiced"],
    ],
  );
  assert.deepEqual([sums.matched, sums.invoicedNanoUsd, sums.bookedNanoUsd, sums.anonymousNanoUsd], [2n, 44n, 47n, 3n]);
});

test("a tampered roll-up is found, and the sums by tenant, team and backend are the total", async (t) => {
  const { store, tamper } = await ledger(t);
  const sound = await verifyLedger(store);
  assert.deepEqual(
    sound.sums.map(({ by, costNanoUsd }) => [by, costNanoUsd]),
    ["tenant", "team", "backend", "rollups"].map((by) => [by, sound.costNanoUsd]),
  );
  tamper("UPDATE rollups SET cost_nano_usd = cost_nano_usd - 5 WHERE tenant = 'acme'");
  const { problems, problemCount } = await verifyLedger(store);
  assert.deepEqual([...new Set(problems.map(({ kind }) => kind))], ["rollup"]);
  assert.equal(problemCount, BigInt(problems.length));
});
