import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { create, fromBinary } from "@bufbuild/protobuf";
import { ControlStateSchema, CreateKeyRequestSchema, type ControlState } from "#gen/signalbox/control/v1/control_service_pb.ts";
import { createMemoryBus, SUBJECTS } from "#libs/bus/index.ts";
import { systemRandom } from "#libs/clock/index.ts";
import { FakeClock } from "#libs/clock/fake.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { SqliteDatabase } from "../sqlite-database.ts";
import { ledgerConfig } from "../testkit.ts";
import { Control } from "./control.ts";

interface Fixture {
  readonly control: Control;
  readonly clock: FakeClock;
  readonly published: ControlState[];
  readonly path: string;
  readonly reopen: () => Promise<Control>;
}

async function fixture(t: TestContext): Promise<Fixture> {
  const directory = mkdtempSync(join(tmpdir(), "signalbox-control-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "ledger.db");
  const clock = new FakeClock();
  const bus = createMemoryBus({ clock, logger: silentLogger });
  const published: ControlState[] = [];
  bus.subscribe(SUBJECTS.controlChanged, (message) => void published.push(fromBinary(ControlStateSchema, message.payload)));
  const reopen = async (): Promise<Control> => {
    const store = new SqliteDatabase(path);
    await store.start();
    t.after(() => store.stop());
    return new Control({ store, bus, clock, random: systemRandom, config: ledgerConfig(), logger: silentLogger });
  };
  return { control: await reopen(), clock, published, path, reopen };
}

const REQUEST = create(CreateKeyRequestSchema, { tenant: "acme", team: "search", models: ["chat"], name: "ci" });

test("a key is shown once, kept as a digest, and pushed to everybody", async (t) => {
  const { control, clock, published, path } = await fixture(t);
  const { key, record } = await control.createKey(REQUEST);
  await clock.advanceAsync(1);
  assert.match(key, /^sk-sbx-[0-9A-Za-z]{43}$/);
  assert.match(record!.keyId, /^key_[0-9A-Za-z]{13}$/);
  assert.equal(record!.digest.length, 0);
  const pushed = published.at(-1)!;
  assert.deepEqual(Buffer.from(pushed.keys[0]!.digest), createHash("sha256").update(key).digest());
  assert.deepEqual([pushed.keys[0]!.tenant, pushed.keys[0]!.models, pushed.revision], ["acme", ["chat"], 2n]);
  assert.ok(key.startsWith(record!.hint.slice(0, -1)));
  for (const file of [path, `${path}-wal`])
    assert.equal(readFileSync(file).includes(key.slice(record!.hint.length)), false, "no key at rest");
});

test("a state the store has not confirmed lately is marked, and is no answer to who knows it", async () => {
  const clock = new FakeClock();
  const bus = createMemoryBus({ clock, logger: silentLogger });
  const database = new SqliteDatabase(":memory:");
  await database.start();
  const shared = new Proxy(database, {
    get: (target, name) => (name === "kind" ? "postgres" : bound(Reflect.get(target, name, target), target)),
  });
  const control = new Control({ store: shared, bus, clock, random: systemRandom, config: ledgerConfig(), logger: silentLogger });
  await control.createKey(REQUEST);
  assert.equal((await control.state(0n))?.unconfirmed, false);
  assert.equal(await control.state(2n), undefined);
  await clock.advanceAsync(5_000);
  assert.deepEqual([(await control.state(0n))?.unconfirmed, (await control.state(0n))?.keys.length], [true, 1]);
  await assert.rejects(control.state(2n), { reason: "KEY_STORE_UNAVAILABLE" });
  await control.poll();
  assert.equal(await control.state(2n), undefined);
  await database.stop();
});

function bound(value: unknown, target: object): unknown {
  return typeof value === "function" ? (value as (...given: unknown[]) => unknown).bind(target) : value;
}

test("a list shows keys without digests, by tenant", async (t) => {
  const { control } = await fixture(t);
  await control.createKey(REQUEST);
  await control.createKey(create(CreateKeyRequestSchema, { tenant: "other" }));
  assert.deepEqual(
    (await control.listKeys()).map((key) => key.tenant),
    ["acme", "other"],
  );
  const [own] = await control.listKeys("acme");
  assert.deepEqual([own!.digest.length, own!.name], [0, "ci"]);
});

test("a revoked key says so for a day, and survives a restart", async (t) => {
  const { control, clock, published, reopen } = await fixture(t);
  const { record } = await control.createKey(REQUEST);
  const revoked = await control.revokeKey(record!.keyId);
  await clock.advanceAsync(1);
  assert.equal(revoked.revokedAtMs, published.at(-1)!.keys[0]!.revokedAtMs);
  assert.ok(revoked.revokedAtMs > 0);
  assert.equal((await (await reopen()).listKeys())[0]!.revokedAtMs, revoked.revokedAtMs);
  await clock.advanceAsync(25 * 3_600_000);
  await control.setDrain("gpu", true);
  assert.deepEqual(await control.listKeys(), []);
  await assert.rejects(control.revokeKey("key_none"), { reason: "ROUTE_UNKNOWN" });
});

test("drains are kept in order, named backends only", async (t) => {
  const { control, reopen } = await fixture(t);
  assert.deepEqual(await control.setDrain("gpu", true), ["gpu"]);
  assert.deepEqual(await control.setDrain("cloud", true), ["cloud", "gpu"]);
  assert.deepEqual(await control.setDrain("cloud", true), ["cloud", "gpu"]);
  assert.deepEqual(await (await reopen()).setDrain("gpu", false), ["cloud"]);
  await assert.rejects(control.setDrain("nowhere", true), { reason: "ROUTE_UNKNOWN" });
});

test("an empty state is an answer, and a known revision gets none", async (t) => {
  const { control } = await fixture(t);
  const state = await control.state(0n);
  assert.deepEqual([state!.revision, state!.keys.length], [1n, 0]);
  assert.equal(await control.state(1n), undefined);
});

test("two writers do not lose each other's keys", async (t) => {
  const { control, reopen } = await fixture(t);
  const other = await reopen();
  await control.state(0n);
  await other.state(0n);
  await Promise.all([control.createKey(REQUEST), other.createKey(REQUEST), control.createKey(REQUEST)]);
  assert.equal((await control.listKeys()).length, 3);
});

test("what a key may not be is refused", async (t) => {
  const { control, clock } = await fixture(t);
  for (const parts of [
    { tenant: "" },
    { tenant: "a b" },
    { tenant: "a", expiresAtMs: clock.now() - 1 },
    { tenant: "a", name: "x".repeat(201) },
  ]) {
    await assert.rejects(control.createKey(create(CreateKeyRequestSchema, parts)), { reason: "REQUEST_MALFORMED" });
  }
});
