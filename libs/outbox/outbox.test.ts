import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { EntriesCommittedSchema, EntriesRecordedSchema, type EntriesRecorded } from "#gen/signalbox/events/v1/events_pb.ts";
import { RecordKind } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { BusMessage, EventBus } from "#libs/bus/bus.ts";
import { systemClock } from "#libs/clock/index.ts";
import { FakeClock, SeededRandom } from "#libs/clock/fake.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { FaultFiles } from "./fault-files.ts";
import { claimSlot } from "./node-files.ts";
import { openOutbox, type Outbox, type OutboxOptions } from "./outbox.ts";
import { decodeRecord } from "./recovery.ts";
import { sampleRecord } from "./sample-record.ts";
import { createShipper } from "./shipper.ts";

function attemptId(number: number): string {
  return `0192a5d3-7c1e-7abc-8def-${String(number).padStart(12, "0")}`;
}

function openFake(clock: FakeClock, options: Partial<OutboxOptions> = {}): Outbox {
  const files = options.files ?? new FaultFiles(clock, new SeededRandom(1));
  const defer = (callback: () => void): void => void clock.after(0, callback);
  return openOutbox({ id: "o1", clock, durability: "overlapped", maxBytes: 1 << 20, onFull: "block", defer, ...options, files });
}

test("what a killed process wrote is there for the next one, and its open attempts are booked as estimates", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "signalbox-outbox-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const first = claimSlot(directory);
  const options = { id: "o1", clock: systemClock, durability: "overlapped", maxBytes: 1 << 20, onFull: "block" } as const;
  const outbox = openOutbox({ ...options, files: first.files });
  outbox.append(sampleRecord(RecordKind.INTENT, attemptId(1)));
  outbox.append(sampleRecord(RecordKind.INTENT, attemptId(2)));
  outbox.append(sampleRecord(RecordKind.POST, attemptId(1)));
  outbox.append(sampleRecord(RecordKind.INTENT, attemptId(3)));
  outbox.append(sampleRecord(RecordKind.VOID, attemptId(3)));
  await new Promise<void>((resolve) => outbox.whenDurable(() => resolve()));
  first.files.release(); // the process dies: nothing is closed
  const second = openOutbox({ ...options, files: claimSlot(directory).files });
  const records = second.read(0, 10, 1 << 20).map((record) => decodeRecord(record.payload));
  assert.deepEqual(
    records.map((record) => [record.attemptId, record.kind, record.estimated]),
    [
      [attemptId(1), RecordKind.POST, false],
      [attemptId(2), RecordKind.EXPIRE, true],
    ],
  );
  assert.ok(records[1]!.costNanoUsd <= records[1]!.reservedNanoUsd);
  assert.deepEqual([second.recovery.records, second.recovery.expired], [5, 1]);
  second.commit(second.lastBooked);
  await second.close();
  assert.deepEqual(readdirSync(join(directory, "0")), [], "a finished outbox leaves nothing");
});

test("two processes on one data folder get a slot each, and a dead one's slot is taken over", (t) => {
  const directory = mkdtempSync(join(tmpdir(), "signalbox-outbox-"));
  t.after(() => rmSync(directory, { recursive: true }));
  assert.equal(claimSlot(directory).slot, "0");
  assert.equal(claimSlot(directory).slot, "1");
  writeFileSync(join(directory, "1", "lock"), "999999999");
  assert.equal(claimSlot(directory).slot, "2", "this process still holds slot 1");
});

test("callbacks come in the order of trust: written, then durable", () => {
  const clock = new FakeClock();
  const outbox = openFake(clock);
  const order: string[] = [];
  outbox.append(sampleRecord(RecordKind.INTENT, attemptId(1)));
  outbox.whenDurable(() => order.push("durable"));
  outbox.whenWritten(() => order.push("written"));
  outbox.beforeDispatch(() => order.push("dispatch"));
  assert.equal(order.length, 0);
  clock.advance(0);
  assert.deepEqual(order, ["written", "dispatch"]);
  clock.advance(20);
  assert.deepEqual(order, ["written", "dispatch", "durable"]);
  outbox.whenDurable(() => order.push("at once"));
  assert.ok(order.includes("at once"));
});

test("what is waited for goes to an idle disk at once; the rest, and whatever comes in numbers, waits for company", () => {
  const clock = new FakeClock();
  const files = new FaultFiles(clock, new SeededRandom(1));
  const syncs: number[] = [];
  const create = files.create.bind(files);
  files.create = (name) => {
    const file = create(name);
    const sync: typeof file.sync = (callback) => {
      syncs.push(clock.monotonicMs());
      file.sync(callback);
    };
    return { ...file, sync };
  };
  const outbox = openFake(clock, { files });
  const msUntilSync = (intents: number, posts: number): number => {
    const startMs = clock.monotonicMs();
    for (let n = 0; n < intents; n++) outbox.append(sampleRecord(RecordKind.INTENT, attemptId(n)));
    if (intents > 0) outbox.beforeAnswer(() => {});
    for (let n = 0; n < posts; n++) outbox.append(sampleRecord(RecordKind.POST, attemptId(n)));
    outbox.flush();
    clock.advance(100);
    return syncs.at(-1)! - startMs;
  };
  assert.equal(msUntilSync(1, 0), 0, "the disk is idle");
  assert.equal(msUntilSync(0, 1), 2, "nobody waits for a settlement");
  assert.equal(msUntilSync(8, 0), 0, "the group before was small");
  assert.equal(msUntilSync(1, 0), 2, "the group before was large");
  assert.equal(msUntilSync(1, 0), 0, "and the last one small");
});

test("strict dispatch waits for the disk, relaxed answers do not", () => {
  const clock = new FakeClock();
  const strict = openFake(clock, { durability: "strict" });
  const relaxed = openFake(clock, { durability: "relaxed" });
  const order: string[] = [];
  strict.append(sampleRecord(RecordKind.INTENT, attemptId(1)));
  strict.beforeDispatch(() => order.push("strict"));
  relaxed.append(sampleRecord(RecordKind.INTENT, attemptId(1)));
  relaxed.beforeAnswer(() => order.push("relaxed answer"));
  clock.advance(0);
  assert.deepEqual(order, ["relaxed answer"]);
  clock.advance(20);
  assert.deepEqual(order, ["relaxed answer", "strict"]);
});

test("a full outbox takes nothing new until the ledger has caught up, settlements excepted", () => {
  const clock = new FakeClock();
  const outbox = openFake(clock, { maxBytes: 64 * 1024 });
  let count = 0;
  while (outbox.accepting) {
    outbox.append(sampleRecord(RecordKind.INTENT, attemptId(++count)));
    outbox.append(sampleRecord(RecordKind.POST, attemptId(count)));
    clock.advance(10);
  }
  assert.ok(count > 40 && count < 200, String(count));
  outbox.append(sampleRecord(RecordKind.POST, attemptId(count + 1)));
  clock.advance(10);
  assert.equal(outbox.read(0, 1000, 1 << 20).length, count + 1);
  outbox.commit(outbox.lastBooked);
  clock.advance(10);
  assert.equal(outbox.accepting, true);
  assert.ok(outbox.stats.diskBytes < 8 * 1024);
});

test("one endless attempt does not hold the log: its intent is written again", () => {
  const clock = new FakeClock();
  const files = new FaultFiles(clock, new SeededRandom(1));
  const outbox = openFake(clock, { maxBytes: 64 * 1024, files });
  outbox.append(sampleRecord(RecordKind.INTENT, attemptId(0)));
  for (let number = 1; number < 500; number++) {
    outbox.append(sampleRecord(RecordKind.INTENT, attemptId(number)));
    outbox.append(sampleRecord(RecordKind.POST, attemptId(number)));
    clock.advance(10);
    outbox.commit(outbox.lastBooked);
    assert.ok(outbox.accepting);
  }
  const next = openFake(clock, { files: files.kill() });
  assert.deepEqual([next.recovery.expired, decodeRecord(next.read(0, 10_000, 1 << 20).at(-1)!.payload).attemptId], [1, attemptId(0)]);
});

test("a disk that refuses blocks new attempts, or memory stands in for it", () => {
  for (const onFull of ["block", "memory"] as const) {
    const clock = new FakeClock();
    const outbox = openFake(clock, { onFull, files: new FaultFiles(clock, new SeededRandom(1), { write: 1, sync: 0 }) });
    const results: (Error | undefined)[] = [];
    outbox.append(sampleRecord(RecordKind.POST, attemptId(1)));
    outbox.whenWritten((error) => results.push(error));
    clock.advance(0);
    assert.equal(results[0] === undefined, onFull === "memory");
    assert.equal(outbox.accepting, onFull === "memory");
    assert.equal(outbox.read(0, 10, 1 << 20).length, 1, "it is shipped all the same");
  }
});

/** A bus that keeps what it is given and answers when told to. */
class ManualBus implements EventBus {
  readonly published: { readonly batch: EntriesRecorded; readonly id: string }[] = [];
  #committed: ((message: BusMessage) => void) | undefined;
  #connection: ((connected: boolean) => void) | undefined;
  failing = false;
  connected = true;
  publish(): void {}
  subscribe(_subject: string, handler: (message: BusMessage) => void): { close(): void } {
    this.#committed = handler;
    return { close: () => {} };
  }
  publishDurable(_subject: string, payload: Uint8Array, id: string): Promise<void> {
    if (this.failing) return Promise.reject(new Error("away"));
    this.published.push({ batch: fromBinary(EntriesRecordedSchema, payload), id });
    return Promise.resolve();
  }
  consume(): never {
    throw new Error("not here");
  }
  keyValue(): never {
    throw new Error("not here");
  }
  onConnection(listener: (connected: boolean) => void): { close(): void } {
    this.#connection = listener;
    return { close: () => {} };
  }
  async close(): Promise<void> {}
  commit(batch: EntriesRecorded): void {
    const payload = toBinary(
      EntriesCommittedSchema,
      create(EntriesCommittedSchema, { outbox: "o1", upToSequence: batch.lastSequence, afterSequence: batch.afterSequence }),
    );
    this.#committed!({ subject: "", payload, deliveries: 1 });
  }
  reconnect(): void {
    this.#connection!(true);
  }
}

async function shipping(): Promise<{ clock: FakeClock; outbox: Outbox; bus: ManualBus; post: (number: number) => Promise<void> }> {
  const clock = new FakeClock();
  const outbox = openFake(clock);
  const bus = new ManualBus();
  createShipper({ outbox, bus, clock, logger: silentLogger });
  const post = async (number: number): Promise<void> => {
    outbox.append(sampleRecord(RecordKind.INTENT, attemptId(number)));
    outbox.append(sampleRecord(RecordKind.POST, attemptId(number)));
    // Written at the end of the tick, shipped when the records gathered.
    await clock.advanceAsync(1);
    await clock.advanceAsync(50);
  };
  return { clock, outbox, bus, post };
}

test("booked records are shipped in order and intents stay home", async () => {
  const { bus, post } = await shipping();
  await post(1);
  await post(2);
  assert.deepEqual(
    bus.published.map(({ batch }) => [batch.afterSequence, batch.lastSequence, batch.records.map((record) => record.attemptId)]),
    [
      [0n, 2n, [attemptId(1)]],
      [2n, 4n, [attemptId(2)]],
    ],
  );
});

test("commits that arrive out of order trim only what is whole", async () => {
  const { bus, outbox, post } = await shipping();
  await post(1);
  await post(2);
  bus.commit(bus.published[1]!.batch);
  assert.equal(outbox.committed, 0);
  bus.commit(bus.published[0]!.batch);
  assert.equal(outbox.committed, 4);
});

test("what the ledger does not commit is sent again, later and later, under a new message id", async () => {
  const { clock, bus, post } = await shipping();
  await post(1);
  await clock.advanceAsync(12_000);
  assert.equal(bus.published.length, 2);
  assert.notEqual(bus.published[0]!.id, bus.published[1]!.id);
  await clock.advanceAsync(15_000);
  assert.equal(bus.published.length, 2);
  await clock.advanceAsync(7_000);
  assert.equal(bus.published.length, 3);
  bus.commit(bus.published[0]!.batch);
  await clock.advanceAsync(600_000);
  assert.equal(bus.published.length, 3);
});

/** Bookings so that a second message is full: the window holds them all. */
const MANY = 1_200;

/** Ships one record, then, while the ledger is silent, many more. */
async function silentLedger(): Promise<Awaited<ReturnType<typeof shipping>>> {
  const ship = await shipping();
  await ship.post(1);
  await ship.clock.advanceAsync(3_000);
  for (let number = 2; number < 2 + MANY; number++) ship.outbox.append(sampleRecord(RecordKind.POST, attemptId(number)));
  await ship.clock.advanceAsync(1_100);
  return ship;
}

test("fault: a silent ledger got the whole backlog again and again; it is asked with the oldest records only", async () => {
  const { clock, outbox, bus } = await silentLedger();
  const sent = bus.published.length;
  await clock.advanceAsync(60_000);
  const asked = bus.published.slice(sent).map(({ batch }) => [batch.afterSequence, batch.records.length]);
  assert.deepEqual(asked, [
    [0n, 499],
    [0n, 499],
  ]);
  for (const { batch } of bus.published) bus.commit(batch);
  assert.equal(outbox.committed, outbox.lastBooked);
  await clock.advanceAsync(600_000);
  assert.equal(bus.published.length, sent + 2, "nothing was lost, so nothing is sent again");
});

test("what the bus lost is sent again as soon as the question behind it is answered", async () => {
  const { clock, outbox, bus } = await silentLedger();
  const sent = bus.published.length;
  await clock.advanceAsync(10_000);
  bus.commit(bus.published[sent]!.batch);
  await clock.advanceAsync(1);
  const again = bus.published.slice(sent + 1);
  assert.equal(again[0]!.batch.afterSequence, bus.published[sent]!.batch.lastSequence);
  for (const { batch } of again) bus.commit(batch);
  assert.equal(outbox.committed, outbox.lastBooked);
});

test("while the ledger is silent, records gather into fewer messages", async () => {
  const { clock, bus, post } = await shipping();
  await post(1);
  await clock.advanceAsync(3_000);
  const sent = bus.published.length;
  for (let number = 2; number < 12; number++) await post(number);
  assert.equal(bus.published.length, sent);
  await clock.advanceAsync(1_000);
  assert.equal(bus.published.length, sent + 1);
});

test("a question the bus did not take is asked again", async () => {
  const { clock, bus, post } = await shipping();
  await post(1);
  bus.failing = true;
  bus.reconnect();
  await clock.advanceAsync(1_500);
  bus.failing = false;
  assert.equal(bus.published.length, 1);
  await clock.advanceAsync(1_000);
  assert.equal(bus.published.length, 2);
});

test("a bus that was away gets everything un-committed again when it is back", async () => {
  const { clock, bus, post } = await shipping();
  await post(1);
  bus.failing = true;
  await post(2);
  assert.equal(bus.published.length, 1);
  bus.failing = false;
  bus.reconnect();
  await clock.advanceAsync(2_000);
  const seen = new Set(bus.published.slice(1).flatMap(({ batch }) => batch.records.map((record) => record.attemptId)));
  assert.deepEqual([...seen].sort(), [attemptId(1), attemptId(2)]);
});
