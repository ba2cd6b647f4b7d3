import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { UsageSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { AttemptsCompletedSchema, EntriesRecordedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import {
  AttemptRecordSchema,
  PriceBookSchema,
  RecordKind,
  type AttemptRecord,
  type Entry,
  type PriceBook,
} from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { createMemoryBus, SUBJECTS, type EventBus } from "#libs/bus/index.ts";
import { FakeClock, SeededRandom } from "#libs/clock/fake.ts";
import type { SwappableConfigSource } from "#libs/config/index.ts";
import { entryJson } from "#libs/money/index.ts";
import { createShipper, openOutbox, type Outbox } from "#libs/outbox/index.ts";
import { FaultFiles } from "#libs/outbox/fault-files.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { createCostLedger, type CostLedgerHost } from "./index.ts";
import { posted } from "./store.contract.ts";
import { SqliteDatabase } from "./sqlite-database.ts";
import type { LedgerStore } from "./store.ts";
import { CountingMetrics, ledgerConfig } from "./testkit.ts";

interface Fixture {
  readonly clock: FakeClock;
  readonly bus: EventBus;
  readonly host: CostLedgerHost;
  readonly outbox: Outbox;
  readonly config: SwappableConfigSource;
  readonly metrics: CountingMetrics;
  readonly books: PriceBook[];
}

async function fixture(t: TestContext, parts: { store?: LedgerStore; config?: SwappableConfigSource } = {}): Promise<Fixture> {
  const clock = new FakeClock();
  const bus = createMemoryBus({ clock, logger: silentLogger });
  const config = parts.config ?? ledgerConfig();
  const metrics = new CountingMetrics();
  const books: PriceBook[] = [];
  bus.subscribe(SUBJECTS.pricePublished, (message) => void books.push(fromBinary(PriceBookSchema, message.payload)));
  const store = parts.store ?? new SqliteDatabase(":memory:");
  const host = createCostLedger({ config, clock, random: new SeededRandom(1), logger: silentLogger, metrics, bus, store });
  await host.module.start();
  t.after(() => host.module.stop());
  const files = new FaultFiles(clock, new SeededRandom(2));
  const defer = (callback: () => void): void => void clock.after(0, callback);
  const outbox = openOutbox({ id: "o1", files, clock, durability: "overlapped", maxBytes: 1 << 20, onFull: "block", defer });
  createShipper({ outbox, bus, clock, logger: silentLogger });
  return { clock, bus, host, outbox, config, metrics, books };
}

/** A settled attempt on the cloud backend: 1,000 tokens in at $1, 500 out at $2 per million. */
async function settled(host: CostLedgerHost, attemptId: string, parts: Partial<AttemptRecord> = {}): Promise<AttemptRecord> {
  const { version } = await host.ledger.priceBook();
  const usage = create(UsageSchema, { inputTokens: 1_000, outputTokens: 500 });
  return posted(attemptId, { backend: "cloud", provider: "openai", priceVersion: version, usage, costNanoUsd: 2_000_000n, ...parts })
    .record;
}

async function entriesOf(host: CostLedgerHost): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const batch of host.ledger.exportEntries({})) entries.push(...batch);
  return entries;
}

test("a settled attempt travels from the outbox to an entry and its records are trimmed", async (t) => {
  const { clock, host, outbox, metrics } = await fixture(t);
  outbox.append(await settled(host, "a1", { kind: RecordKind.INTENT }));
  outbox.append(await settled(host, "a1"));
  await clock.advanceAsync(2_000);
  const [entry] = await entriesOf(host);
  assert.equal(entryJson(entry!).cost_nano_usd, "2000000");
  assert.deepEqual([outbox.committed, metrics.of("signalbox_ledger_entries_total")], [2, 1]);
  const summary = await host.ledger.summary();
  assert.deepEqual([summary.entries, summary.costNanoUsd, summary.store, summary.storeUp], [1n, 2_000_000n, "sqlite", true]);
});

test("every record delivered one to five times in any order, over half an hour, is one entry", async (t) => {
  const { clock, host, bus, metrics } = await fixture(t);
  const random = new SeededRandom(5);
  const files = new FaultFiles(clock, random);
  const outbox = openOutbox({ id: "replayed", files, clock, durability: "relaxed", maxBytes: 1 << 24, onFull: "block" });
  for (let number = 0; number < 300; number++) outbox.append(await settled(host, `a${number}`));
  outbox.flush();
  const records = outbox.read(0, 1_000, 1 << 24).map((record) => fromBinary(AttemptRecordSchema, record.payload));
  for (let round = 0; round < 5; round++) {
    const order = records.toSorted(() => random.next() - 0.5);
    for (let at = 0; at < order.length; at += 10) {
      if (round > 0 && random.next() < 0.4) continue;
      const payload = toBinary(
        EntriesRecordedSchema,
        create(EntriesRecordedSchema, { outbox: "replayed", records: order.slice(at, at + 10) }),
      );
      await bus.publishDurable(SUBJECTS.entryRecorded, payload, `${round}-${at}`);
    }
    await clock.advanceAsync(360_000);
  }
  const summary = await host.ledger.summary();
  assert.deepEqual([summary.entries, summary.costNanoUsd], [300n, 600_000_000n]);
  assert.ok(metrics.of("signalbox_ledger_duplicates_total") > 300);
});

test("a store that is away loses nothing: records wait, and are booked once when it is back", async (t) => {
  const real = new SqliteDatabase(":memory:");
  let away = true;
  const store = new Proxy(real, {
    get: (target, name) => {
      if (name === "book" && away) return () => Promise.reject(new Error("away"));
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
  const { clock, host, outbox } = await fixture(t, { store });
  outbox.append(await settled(host, "a1"));
  await clock.advanceAsync(5_000);
  assert.deepEqual([(await host.ledger.summary()).entries, outbox.committed], [0n, 0]);
  away = false;
  await clock.advanceAsync(60_000);
  assert.deepEqual([(await host.ledger.summary()).entries, outbox.committed], [1n, 1]);
});

test("fault: records waited half a minute more for a store that was back", async (t) => {
  const real = new SqliteDatabase(":memory:");
  const listeners: ((up: boolean) => void)[] = [];
  let up = true;
  const store = new Proxy(real, {
    get: (target, name) => {
      if (name === "up") return up;
      if (name === "onChange") return (listener: (up: boolean) => void) => void listeners.push(listener);
      if (name === "book" && !up) return () => Promise.reject(new Error("away"));
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
  const { clock, host, outbox } = await fixture(t, { store });
  const turn = (now: boolean): void => {
    up = now;
    for (const listener of listeners) listener(now);
  };
  turn(false);
  outbox.append(await settled(host, "a1"));
  await clock.advanceAsync(60_000);
  assert.equal(outbox.committed, 0);
  turn(true);
  await clock.advanceAsync(1_000);
  assert.deepEqual([(await host.ledger.summary()).entries, outbox.committed], [1n, 1]);
});

test("the ledger's own sum is booked when a record states another, and it is counted", async (t) => {
  const { clock, host, outbox, metrics } = await fixture(t);
  outbox.append(await settled(host, "a1", { costNanoUsd: 1n }));
  outbox.append(await settled(host, "a2", { costNanoUsd: 7n, priceVersion: "unknown-version" }));
  await clock.advanceAsync(2_000);
  assert.deepEqual(
    (await entriesOf(host)).map((entry) => entry.record!.costNanoUsd),
    [2_000_000n, 7n],
  );
  assert.equal(metrics.of("signalbox_ledger_cost_corrections_total"), 1);
});

test("an adapter's outcome replaces an estimate, whichever comes first", async (t) => {
  const { clock, host, outbox, bus } = await fixture(t);
  const complete = (attemptId: string): void => {
    const end = { outcome: Outcome.OK, usageKnown: true, usage: { inputTokens: 100 }, durationMs: 5 };
    bus.publish(
      SUBJECTS.attemptCompleted,
      toBinary(AttemptsCompletedSchema, create(AttemptsCompletedSchema, { attempts: [{ attemptId, end }] })),
    );
  };
  const estimate = { kind: RecordKind.EXPIRE, outcome: Outcome.UNSPECIFIED, estimated: true, costNanoUsd: 5_000_000n };
  complete("before");
  await clock.advanceAsync(1);
  outbox.append(await settled(host, "before", estimate));
  outbox.append(await settled(host, "after", estimate));
  await clock.advanceAsync(2_000);
  complete("after");
  await clock.advanceAsync(2_000);
  const entries = (await entriesOf(host)).map(entryJson);
  assert.deepEqual(
    entries.map((entry) => [entry.attempt_id, entry.cost_nano_usd, entry.outcome, entry.reverses]),
    [
      ["before", "100000", "ok", ""],
      ["after", "5000000", "expired", ""],
      ["after", "-5000000", "expired", "after"],
      ["after", "100000", "ok", ""],
    ],
  );
});

test("the price book is pushed at the start, on a change and every half minute, and a bad file keeps the last good one", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "signalbox-prices-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const { clock, config, books, host } = await fixture(t);
  await clock.advanceAsync(1);
  assert.equal(books.length, 1);
  await clock.advanceAsync(30_000);
  assert.equal(books.length, 2);
  const first = books[0]!.version;
  const bad = join(directory, "bad.json");
  writeFileSync(bad, '{"m": {"input_cost_per_token": "free"}}');
  config.swap({ ...config.current, prices: { ...config.current.prices, files: [bad] } });
  assert.equal((await host.ledger.priceBook()).version, first);
  assert.equal(host.module.checks.find((check) => check.name === "price-book")!.status().state, "degraded");
  config.swap({ ...config.current, prices: { ...config.current.prices, files: [], onUnknown: "allow_unpriced" } });
  await clock.advanceAsync(1);
  assert.notEqual(books.at(-1)!.version, first);
  assert.equal(host.module.checks.find((check) => check.name === "price-book")!.status().state, "ok");
});

test("a price file that is missing, cut off, garbage or a folder keeps the old prices, says where, and attempts go on being priced", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "signalbox-prices-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const { clock, config, host, outbox } = await fixture(t);
  const first = (await host.ledger.priceBook()).version;
  const file = join(directory, "prices.json");
  const status = (): { state: string; detail?: string | undefined } =>
    host.module.checks.find((check) => check.name === "price-book")!.status();
  const refusedAfter = async (path: string): Promise<void> => {
    config.swap({ ...config.current, prices: { ...config.current.prices, files: [path] } });
    await clock.advanceAsync(1);
    assert.equal(status().state, "degraded", path);
    assert.ok(status().detail!.includes(path), `${status().detail} names ${path}`);
    assert.equal((await host.ledger.priceBook()).version, first);
  };
  await refusedAfter(join(directory, "absent.json"));
  await refusedAfter(directory);
  for (const text of ["", '{"m": {"input_cost_per_token": 1e-', "\u0000\u0001", '{"m": {"output_cost_per_token": -2}}']) {
    writeFileSync(file, text);
    await refusedAfter(file);
  }
  outbox.append(await settled(host, "a1", { kind: RecordKind.INTENT }));
  outbox.append(await settled(host, "a1", { costNanoUsd: 1n }));
  await clock.advanceAsync(1_000);
  assert.equal((await entriesOf(host))[0]!.record!.costNanoUsd, 2_000_000n);
});

test("an attempt that began before a price changed and ended after it is billed at the old price", async (t) => {
  const { clock, config, host, outbox } = await fixture(t);
  const admitted = await settled(host, "a1", { kind: RecordKind.INTENT, startedAtUs: BigInt(Math.floor(clock.now() * 1_000)) });
  outbox.append(admitted);
  const cloud = config.current.backends.get("cloud")!;
  const dearer = { ...cloud, price: { ...cloud.price!, inputPico: 9_000_000n, outputPico: 9_000_000n } };
  config.swap({ ...config.current, backends: new Map([...config.current.backends, ["cloud", dearer]]) });
  await clock.advanceAsync(5_000);
  outbox.append({ ...admitted, kind: RecordKind.POST });
  outbox.append(await settled(host, "a2", { costNanoUsd: 0n }));
  await clock.advanceAsync(1_000);
  assert.deepEqual(
    (await entriesOf(host)).map(({ record }) => [record!.attemptId, record!.costNanoUsd]),
    [
      ["a1", 2_000_000n],
      ["a2", 13_500_000n],
    ],
  );
});

test("a rented machine's entries add up to its rent, hour by hour, also when entries come late", async (t) => {
  const { clock, host, bus } = await fixture(t);
  const HOUR_MS = 3_600_000;
  const rent = 3_600_000_000n;
  await clock.advanceAsync(HOUR_MS - (clock.now() % HOUR_MS));
  const firstMs = clock.now();
  const { version } = await host.ledger.priceBook();
  const book = async (attemptId: string, hour: number, gpuSeconds: number): Promise<void> => {
    const record = posted(attemptId, {
      backend: "gpu",
      priceVersion: version,
      startedAtUs: BigInt(firstMs + hour * HOUR_MS + 60_000) * 1000n,
      gpuSeconds,
      costNanoUsd: BigInt(gpuSeconds) * 1_000_000n,
    }).record;
    await bus.publishDurable(SUBJECTS.entryRecorded, toBinary(EntriesRecordedSchema, create(EntriesRecordedSchema, { outbox: "x", records: [record] })), attemptId); // prettier-ignore
    await clock.advanceAsync(1_000);
  };
  const hours = async (): Promise<(readonly [string, bigint, bigint])[]> => {
    const rows = await host.ledger.costs({ by: ["hour", "backend"], sinceMs: firstMs });
    return rows
      .filter(({ group }) => group[1] === "gpu")
      .map(({ group, costNanoUsd, idleNanoUsd }) => [group[0]!, costNanoUsd, idleNanoUsd] as const)
      .toSorted(([a], [b]) => (a < b ? -1 : 1));
  };
  const name = (hour: number): string => new Date(firstMs + hour * HOUR_MS).toISOString().replace(".000", "");
  await book("a1", 0, 600);
  await book("a2", 1, 4_000);
  await clock.advanceAsync(2 * HOUR_MS + 400_000);
  assert.deepEqual(await hours(), [
    [name(0), rent, rent - 600_000_000n],
    [name(1), rent, rent - 4_000_000_000n],
  ]);
  for (const late of ["late-1", "late-2"]) {
    await book(late, 0, 5);
    await clock.advanceAsync(120_000);
    assert.equal((await hours())[0]![1], rent, late);
  }
  assert.equal((await host.ledger.verify()).problemCount, 0n);
});

test("fault: a new price per hour re-priced the rent of the last 72 hours; it counts from the minute it was loaded", async (t) => {
  const { clock, config, host, bus } = await fixture(t);
  const HOUR_MS = 3_600_000;
  const rent = 3_600_000_000n;
  await clock.advanceAsync(HOUR_MS - (clock.now() % HOUR_MS));
  const firstMs = clock.now();
  const rents = async (): Promise<bigint[]> => {
    const rows = await host.ledger.costs({ by: ["hour", "backend"], sinceMs: firstMs });
    return rows
      .filter(({ group }) => group[1] === "gpu")
      .toSorted((a, b) => (a.group[0]! < b.group[0]! ? -1 : 1))
      .map(({ costNanoUsd }) => costNanoUsd);
  };
  const load = (perHourNano: bigint): void => {
    const gpu = config.current.backends.get("gpu")!;
    const backends = new Map([...config.current.backends, ["gpu", { ...gpu, price: { ...gpu.price!, perHourNano } }]]);
    config.swap({ ...config.current, backends });
  };
  await clock.advanceAsync(2 * HOUR_MS + HOUR_MS / 4);
  load(2n * rent);
  await clock.advanceAsync(HOUR_MS);
  load(rent);
  await clock.advanceAsync(2 * HOUR_MS);
  const due = [rent, rent, rent / 4n + (3n * rent) / 2n, (2n * rent) / 4n + (3n * rent) / 4n, rent];
  assert.deepEqual(await rents(), due);
  const late = posted("late", { backend: "gpu", startedAtUs: BigInt(firstMs + 60_000) * 1000n, costNanoUsd: 7n }).record;
  await bus.publishDurable(SUBJECTS.entryRecorded, toBinary(EntriesRecordedSchema, create(EntriesRecordedSchema, { outbox: "x", records: [late] })), "late"); // prettier-ignore
  await clock.advanceAsync(120_000);
  assert.deepEqual(await rents(), due, "a late entry is taken out of the idle part at the price of its hour");
});
