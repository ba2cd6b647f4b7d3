import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { create } from "@bufbuild/protobuf";
import { UsageSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { RecordKind, type Entry } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { CostRow } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import type { Random } from "#libs/clock/index.ts";
import { SeededRandom } from "#libs/clock/fake.ts";
import { outcomeWord } from "#libs/money/index.ts";
import type { CostQuery } from "#libs/peers/index.ts";
import { COLUMNS } from "./columns.ts";
import type { PricedRecord } from "./entries/index.ts";
import { ROLLUP_DIMENSIONS, ROLLUP_SUMS } from "./rollups.ts";
import { posted } from "./store.contract.ts";
import type { LedgerStore } from "./store.ts";
import { verifyLedger } from "./verify.ts";

/** A store, and a way round it: statements of somebody who may do anything. */
export interface OpenedLedger {
  readonly store: LedgerStore;
  /** Runs SQL without the guards against changes. */
  readonly tamper: (sql: string) => Promise<void>;
}

/** Gives a test an empty, started store; stopped by the suite. */
export type OpenLedger = (t: TestContext) => Promise<OpenedLedger>;

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const FROM_MS = Date.UTC(2026, 9, 24);
const DAYS = 4;
const DIMENSIONS = [...ROLLUP_DIMENSIONS, "key", "month", "day", "hour", "purpose", "outcome", "tag:user", "tag:absent", "tags"] as const;
const ATTEMPTS = 300;
const QUERIES = 60;

/** Records as they arrive in a bad week: estimates, their corrections, repeats, rent, waste, some on the stroke of midnight. */
function badWeek(random: Random): PricedRecord[] {
  const records: PricedRecord[] = [];
  for (let number = 0; number < ATTEMPTS; number++) {
    const near = random.int(3);
    const dayMs = FROM_MS + random.int(DAYS + 1) * DAY_MS;
    const startedAtUs =
      near === 0
        ? BigInt(dayMs) * 1_000n + BigInt(random.int(3) - 1)
        : BigInt(FROM_MS + random.int(DAYS * DAY_MS)) * 1_000n + BigInt(random.int(1_000));
    const isIdle = random.next() < 0.05;
    const parts = {
      tenant: `t${random.int(3)}`,
      team: ["", "x", "y"][random.int(3)]!,
      keyId: `k${random.int(4)}`,
      model: ["chat", "a\0b", "ü"][random.int(3)]!,
      backend: `b${random.int(3)}`,
      provider: `p${random.int(2)}`,
      experiment: ["", "e"][random.int(2)]!,
      arm: ["", "one"][random.int(2)]!,
      tags: random.next() < 0.5 ? { user: `u${random.int(3)}` } : {},
      startedAtUs,
      unpriced: number % 10 === 0,
      attempt: isIdle ? 0 : 1 + random.int(3),
      purpose: isIdle ? "idle" : ["billed", "billed", "waste_retry", "waste_hedge", "waste_aborted"][random.int(5)]!,
      costNanoUsd: BigInt(random.int(1_000_000)) - (isIdle ? 500_000n : 0n),
      usage: create(UsageSchema, {
        inputTokens: random.int(900),
        cacheReadTokens: random.int(90),
        outputTokens: random.int(90),
        audioOutputTokens: random.int(9),
      }),
    };
    const baseline = BigInt(random.int(2_000_000));
    const real = posted(`a${number}`, parts, baseline);
    const kind = random.int(4);
    if (kind === 0)
      records.push(
        posted(`a${number}`, { ...parts, kind: RecordKind.EXPIRE, costNanoUsd: parts.costNanoUsd * 2n, estimated: true }, baseline),
      );
    if (kind !== 1 || random.next() < 0.5) records.push(real);
    if (kind === 2) records.push(real);
  }
  return shuffled(records, random);
}

function shuffled<T>(items: readonly T[], random: Random): T[] {
  const mixed = [...items];
  for (let at = mixed.length - 1; at > 0; at--) {
    const other = random.int(at + 1);
    [mixed[at], mixed[other]] = [mixed[other]!, mixed[at]!];
  }
  return mixed;
}

async function bookInPieces(store: LedgerStore, records: readonly PricedRecord[], random: Random): Promise<void> {
  for (let at = 0; at < records.length;) {
    const piece = 1 + random.int(60);
    await store.book(records.slice(at, at + piece), FROM_MS + at);
    at += piece;
  }
}

async function everyEntry(store: LedgerStore): Promise<readonly Entry[]> {
  const entries: Entry[] = [];
  for (;;) {
    const batch = await store.exportEntries({}, entries.at(-1)?.sequence ?? 0n);
    if (batch.length === 0) return entries;
    entries.push(...batch);
  }
}

function groupOf(entry: Entry, by: string): string {
  const record = entry.record!;
  const startedMs = Number(record.startedAtUs / 1_000n);
  if (by === "day") return new Date(startedMs).toISOString().slice(0, 10);
  if (by === "month") return new Date(startedMs).toISOString().slice(0, 7);
  if (by === "purpose") return record.purpose;
  if (by === "outcome") return outcomeWord(record);
  if (by === "hour") return `${new Date(startedMs).toISOString().slice(0, 13)}:00:00Z`;
  if (by === "tags") return JSON.stringify(record.tags);
  if (by.startsWith("tag:")) return record.tags[by.slice(4)] ?? "";
  const names: Readonly<Record<string, string>> = {
    tenant: record.tenant,
    team: record.team,
    key_id: record.keyId,
    key: record.keyId,
    model: record.model,
    backend: record.backend,
    provider: record.provider,
    experiment: record.experiment,
    arm: record.arm,
  };
  return names[by]!.replaceAll("\0", "\ufffd");
}

type Sums = Record<"requests" | "attempts" | "input" | "output" | "cost" | "waste" | "idle", bigint>;

/** The same sums from the exported entries, one by one. */
function naive(entries: readonly Entry[], { by, sinceMs, untilMs, unpricedOnly }: CostQuery): Map<string, Sums> {
  const groups = new Map<string, Sums>();
  for (const entry of entries) {
    const record = entry.record!;
    const atMs = Number(record.startedAtUs) / 1_000;
    if (atMs < (sinceMs ?? 0) || atMs >= (untilMs ?? Number.POSITIVE_INFINITY)) continue;
    if (unpricedOnly === true && !record.unpriced) continue;
    const key = JSON.stringify(by.map((name) => groupOf(entry, name)));
    const sums = groups.get(key) ?? { requests: 0n, attempts: 0n, input: 0n, output: 0n, cost: 0n, waste: 0n, idle: 0n };
    const sign = entry.reverses === "" ? 1n : -1n;
    const isIdle = record.purpose === "idle";
    const usage = record.usage!;
    sums.requests += record.attempt === 1 ? sign : 0n;
    sums.attempts += isIdle ? 0n : sign;
    sums.input += sign * BigInt(usage.inputTokens + usage.cacheReadTokens);
    sums.output += sign * BigInt(usage.outputTokens + usage.audioOutputTokens);
    sums.cost += record.costNanoUsd;
    sums.waste += record.purpose.startsWith("waste") ? record.costNanoUsd : 0n;
    sums.idle += isIdle ? record.costNanoUsd : 0n;
    groups.set(key, sums);
  }
  return groups;
}

function answered(rows: readonly CostRow[]): Map<string, Sums> {
  const sums = (row: CostRow): Sums => ({
    requests: row.requests,
    attempts: row.attempts,
    input: row.inputTokens,
    output: row.outputTokens,
    cost: row.costNanoUsd,
    waste: row.wasteNanoUsd,
    idle: row.idleNanoUsd,
  });
  // Databases write JSON with spaces of their own.
  const plain = (group: string): string => (group.startsWith("{") ? JSON.stringify(JSON.parse(group)) : group);
  return new Map(rows.map((row) => [JSON.stringify(row.group.map(plain)), sums(row)]));
}

function byKey(groups: Map<string, Sums>): [string, Sums][] {
  // A group that comes to nothing may be a row of zeros or none: a corrected entry leaves no trace in some.
  return [...groups].filter(([, sums]) => Object.values(sums).some((sum) => sum !== 0n)).toSorted(([a], [b]) => (a < b ? -1 : 1));
}

/** A period as reports have them: open, whole days, whole hours, or anything. */
function randomPeriod(random: Random): Pick<CostQuery, "sinceMs" | "untilMs"> {
  const unit = [DAY_MS, HOUR_MS, 60_000, 1][random.int(4)]!;
  const end = (): number => Math.floor((FROM_MS + random.int((DAYS + 1) * DAY_MS)) / unit) * unit;
  const sinceMs = random.next() < 0.2 ? undefined : end();
  const untilMs = random.next() < 0.2 ? undefined : (sinceMs ?? FROM_MS) + random.int((3 * DAY_MS) / unit) * unit;
  return { ...(sinceMs === undefined ? {} : { sinceMs }), ...(untilMs === undefined ? {} : { untilMs }) };
}

/** Statements that change one row's column to something else, by its type. */
function changeOf(column: string, postgres: string): string {
  switch (postgres) {
    case "text":
      return `${column} = ${column} || 'x'`;
    case "jsonb":
      return `${column} = '{"forged":"tag"}'`;
    case "bytea":
      return `${column} = (SELECT ${column} FROM entries WHERE sequence = 7)`;
    case "int2":
      return `${column} = 1 - ${column}`;
    default:
      return `${column} = ${column} + ${column === "sequence" ? 1_000_000 : 1}`;
  }
}

/** What sums and their verification promise over any store (`costs`, `verify`). */
export function sumsContract(name: string, open: OpenLedger, skip: string | false, rounds: number): void {
  test(`${name}: sums by any dimensions over any period are those of the entries, and each cut is the total`, { skip }, async (t) => {
    for (let round = 0; round < rounds; round++) {
      const random = new SeededRandom(500 + round);
      const { store } = await open(t);
      await bookInPieces(store, badWeek(random), random);
      const entries = await everyEntry(store);
      assert.ok(entries.some(({ reverses }) => reverses !== ""));
      for (let number = 0; number < QUERIES; number++) {
        const by = shuffled(DIMENSIONS, random).slice(0, random.int(6));
        const query = { by, ...randomPeriod(random), unpricedOnly: random.next() < 0.2 };
        const rows = await store.costs(query);
        assert.deepEqual(byKey(answered(rows)), byKey(naive(entries, query)), `seed ${500 + round}: ${JSON.stringify(query)}`);
      }
      const total = (await store.totals()).costNanoUsd;
      for (const by of DIMENSIONS) {
        const sum = (await store.costs({ by: [by] })).reduce((cost, row) => cost + row.costNanoUsd, 0n);
        assert.equal(sum, total, by);
      }
      assert.deepEqual((await verifyLedger(store)).problems, []);
    }
  });

  test(`${name}: whatever is changed in one row, removed, swapped or forged is found`, { skip }, async (t) => {
    const { store, tamper } = await open(t);
    const random = new SeededRandom(8);
    await bookInPieces(store, badWeek(random), random);
    const count = Number((await store.totals()).entries);
    for (const table of ["entries", "rollups", "rollup_days"]) await tamper(`CREATE TABLE ${table}_kept AS SELECT * FROM ${table}`);
    const problemsAfter = async (sql: string): Promise<readonly { sequence: bigint; kind: string; detail: string }[]> => {
      await tamper(sql);
      const { problems } = await verifyLedger(store);
      for (const table of ["entries", "rollups", "rollup_days"]) {
        await tamper(`DELETE FROM ${table}`);
        await tamper(`INSERT INTO ${table} SELECT * FROM ${table}_kept`);
      }
      return problems;
    };
    for (const { name: column, postgres } of COLUMNS) {
      const row = 10 + random.int(count - 20);
      const problems = await problemsAfter(`UPDATE entries SET ${changeOf(column, postgres)} WHERE sequence = ${row}`);
      const where = column === "sequence" ? BigInt(row + 1) : BigInt(row);
      assert.ok(
        problems.some(({ sequence }) => sequence === where),
        `${column} of row ${row}`,
      );
    }
    const others = {
      "the first": "DELETE FROM entries WHERE sequence = 1",
      "one in the middle": "DELETE FROM entries WHERE sequence = 50",
      "the last": `DELETE FROM entries WHERE sequence = ${count}`,
      "the last ten": `DELETE FROM entries WHERE sequence > ${count - 10}`,
      "two swapped":
        "UPDATE entries SET sequence = -1 WHERE sequence = 20; UPDATE entries SET sequence = 20 WHERE sequence = 21; UPDATE entries SET sequence = 21 WHERE sequence = -1",
      "one renumbered to the end": `UPDATE entries SET sequence = ${count + 1} WHERE sequence = 30`,
      "one forged": `INSERT INTO entries SELECT ${COLUMNS.map((column) => (column.name === "sequence" ? count + 1 : column.name === "attempt_id" ? "'forged'" : column.name)).join(", ")} FROM entries WHERE sequence = 40`,
    };
    for (const [what, sql] of Object.entries(others)) assert.notDeepEqual(await problemsAfter(sql), [], what);
    for (const table of ["rollups", "rollup_days"]) {
      const one = `hour = (SELECT MIN(hour) FROM ${table})`;
      const changes = [
        ...ROLLUP_DIMENSIONS.map((column) => `UPDATE ${table} SET ${column} = ${column} || 'x' WHERE ${one}`),
        ...ROLLUP_SUMS.map((sum) => `UPDATE ${table} SET ${sum.name} = ${sum.name} + 1 WHERE ${one}`),
        `UPDATE ${table} SET hour = hour + 2400 WHERE ${one}`,
        `DELETE FROM ${table} WHERE ${one}`,
      ];
      for (const sql of changes)
        assert.ok(
          (await problemsAfter(sql)).some(({ kind }) => kind === "rollup"),
          sql,
        );
    }
    assert.deepEqual((await verifyLedger(store)).problems, []);
  });
}
