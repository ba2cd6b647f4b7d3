import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary } from "@bufbuild/protobuf";
import { BudgetCrossedSchema, type BudgetCrossed } from "#gen/signalbox/events/v1/events_pb.ts";
import { LeaseBudgetRequestSchema, type LeaseBudgetResponse } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import { createMemoryBus, SUBJECTS } from "#libs/bus/index.ts";
import { FakeClock, SeededRandom } from "#libs/clock/fake.ts";
import type { BudgetConfig } from "#libs/config/model.ts";
import { windowAt } from "#libs/money/index.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { SqliteDatabase } from "../sqlite-database.ts";
import { posted } from "../store.contract.ts";
import { ledgerConfig } from "../testkit.ts";
import { BudgetDesk, BudgetOwner, HOLDER_DEAD_MS, HOLDER_SILENT_MS } from "./index.ts";

const AMOUNT = 10_000n;

test("settled and held never exceed the amount, whatever three holders ask, lose or repeat", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = new SeededRandom(seed);
    const owner = new BudgetOwner(0n);
    const holders = ["a", "b", "c"].map((id) => ({ id, spentTotal: 0n, held: 0n, sequence: 0n }));
    for (let step = 0; step < 200; step++) {
      const holder = holders[random.int(3)]!;
      const settled = BigInt(random.int(Number(holder.held) + 1));
      holder.spentTotal += settled;
      holder.held -= settled;
      if (random.next() < 0.3) holder.held = 0n;
      const need = BigInt(1 + random.int(500));
      const ask = { ...holder, holder: holder.id, sequence: ++holder.sequence, want: need * 4n, need };
      const { granted } = owner.ask(ask, AMOUNT, step);
      assert.ok(granted === 0n || granted >= need, "whole or nothing");
      // An answer that is lost leaves money with the owner until the next report says that it is not held.
      if (random.next() < 0.8) holder.held += granted;
      const truth = holders.reduce((sum, { spentTotal, held }) => sum + spentTotal + held, 0n);
      assert.ok(truth <= AMOUNT && owner.spent + owner.held <= AMOUNT, `seed ${seed}`);
      assert.deepEqual(BudgetOwner.decode(owner.encode()), owner);
    }
  }
});

test("slices shrink as the limit comes near, and what is short is called back", () => {
  const owner = new BudgetOwner(0n);
  const ask = (holder: string, parts: { held?: bigint; want?: bigint; spentTotal?: bigint }, sequence = 1n): bigint => {
    const { held = 0n, want = 0n, spentTotal = 0n } = parts;
    return owner.ask({ holder, sequence, spentTotal, held, want, need: 100n }, AMOUNT, 0).granted;
  };
  assert.equal(ask("a", { want: 9_000n }), 1_250n);
  assert.equal(ask("b", { want: 9_000n }), 546n);
  assert.equal(ask("a", { held: 0n, spentTotal: 9_400n }, 2n), 0n);
  assert.equal(ask("c", { want: 9_000n }), 0n, "54 left do not hold 100");
  const told = owner.ask({ holder: "b", sequence: 2n, spentTotal: 0n, held: 46n, want: 0n, need: 0n }, AMOUNT, 1);
  assert.equal(told.recall, true);
  assert.equal(ask("c", { want: 9_000n }, 2n), 100n, "no less than what is needed");
});

test("a call that arrives after a later one changes nothing", () => {
  const owner = new BudgetOwner(0n);
  const late = { holder: "a", sequence: 1n, spentTotal: 0n, held: 0n, want: 500n, need: 1n };
  owner.ask({ ...late, sequence: 2n, spentTotal: 70n, want: 0n }, AMOUNT, 0);
  assert.equal(owner.ask(late, AMOUNT, 0).granted, 0n);
  assert.deepEqual([owner.spent, owner.held], [70n, 0n]);
});

test("nobody waits for what a silent holder has, and once it is dead its real spending counts", () => {
  const owner = new BudgetOwner(0n);
  const ask = (holder: string, want: bigint, nowMs: number, sequence = 1n): ReturnType<BudgetOwner["ask"]> =>
    owner.ask({ holder, sequence, spentTotal: 0n, held: 0n, want, need: want }, AMOUNT, nowMs);
  assert.equal(ask("a", 8_000n, 0).granted, 8_000n);
  assert.equal(ask("b", 3_000n, 1).left, AMOUNT);
  assert.equal(ask("b", 3_000n, HOLDER_SILENT_MS, 2n).left, 2_000n);
  assert.equal(owner.hasDead(HOLDER_DEAD_MS), true);
  owner.forget(1_500n, HOLDER_DEAD_MS);
  assert.deepEqual([owner.spent, owner.held], [1_500n, 0n]);
});

interface Fixture {
  readonly desk: BudgetDesk;
  readonly store: SqliteDatabase;
  readonly clock: FakeClock;
  readonly alerts: BudgetCrossed[];
  readonly another: () => BudgetDesk;
}

const BUDGET: BudgetConfig = { amountNanoUsd: AMOUNT, per: "month", mode: "hard", alert: [1, 0.5, 0.8], team: undefined, key: undefined };

async function fixture(budgets: readonly BudgetConfig[]): Promise<Fixture> {
  const clock = new FakeClock();
  const bus = createMemoryBus({ clock, logger: silentLogger });
  const alerts: BudgetCrossed[] = [];
  bus.subscribe(SUBJECTS.budgetCrossed, (message) => void alerts.push(fromBinary(BudgetCrossedSchema, message.payload)));
  const store = new SqliteDatabase(":memory:");
  await store.start();
  const limits = { rpm: undefined, tpm: undefined, concurrency: undefined, weight: 1 };
  const config = ledgerConfig({ tenants: new Map([["acme", { name: "acme", teams: [], budgets, limits, models: undefined }]]) });
  const another = (): BudgetDesk => new BudgetDesk({ config, store, bus, clock, logger: silentLogger });
  return { desk: another(), store, clock, alerts, another };
}

function lease(desk: BudgetDesk, clock: FakeClock, holder: string, sequence: bigint, parts: object): Promise<LeaseBudgetResponse> {
  const window = windowAt("month", clock.now()).id;
  const asks = [{ budget: "acme/*/month/hard", window, ...parts }];
  return desk.lease(create(LeaseBudgetRequestSchema, { holder, sequence, asks }));
}

test("two ledgers over one store own a budget together, and a restart forgets nothing", async () => {
  const { desk, clock, another } = await fixture([BUDGET]);
  const desks = [desk, another()];
  const answers = await Promise.all(
    Array.from({ length: 60 }, (_, number) => lease(desks[number % 2]!, clock, `holder-${number}`, 1n, { want: 300n, need: 300n })),
  );
  const granted = answers.reduce((sum, { grants }) => sum + grants[0]!.granted, 0n);
  assert.equal(granted, 9_900n);
  const [state] = await another().list("acme");
  assert.deepEqual([state!.leasedNanoUsd, state!.amountNanoUsd, state!.mode], [9_900n, AMOUNT, "hard"]);
});

test("a budget begins with what is booked, counts only its team and key, and tells of each threshold once", async () => {
  const { desk, store, clock, alerts } = await fixture([BUDGET, { ...BUDGET, team: "search", per: "total", mode: "soft" }]);
  const startedAtUs = BigInt(clock.now()) * 1000n;
  await store.book(
    [
      posted("a1", { startedAtUs, costNanoUsd: 4_000n }),
      posted("a2", { startedAtUs, costNanoUsd: 1_000n, team: "search" }),
      posted("a3", { startedAtUs, costNanoUsd: 9_000n, tenant: "other" }),
    ],
    1,
  );
  assert.deepEqual(
    (await desk.list(undefined)).map(({ budget, spentNanoUsd }) => [budget, spentNanoUsd]),
    [
      ["acme/*/month/hard", 5_000n],
      ["acme/team:search/total/soft", 1_000n],
    ],
  );
  await lease(desk, clock, "a", 1n, { spentTotal: 0n });
  await lease(desk, clock, "a", 2n, { spentTotal: 3_500n });
  await lease(desk, clock, "a", 3n, { spentTotal: 3_600n });
  await clock.advanceAsync(1);
  assert.deepEqual(
    alerts.map(({ threshold, spentNanoUsd }) => [threshold, spentNanoUsd]),
    [
      [0.5, 5_000n],
      [0.8, 8_500n],
    ],
  );
});

test("a budget that is not in the configuration is not known, and every live ingress is counted", async () => {
  const { desk, clock } = await fixture([]);
  const { grants } = await lease(desk, clock, "a", 1n, { want: 5n });
  assert.deepEqual([grants[0]!.known, grants[0]!.granted], [false, 0n]);
  assert.equal((await lease(desk, clock, "b", 1n, {})).holders, 2);
  clock.advance(HOLDER_SILENT_MS);
  assert.equal((await lease(desk, clock, "b", 2n, {})).holders, 1);
});

test("windows are days and months of UTC, or for ever", () => {
  const at = Date.UTC(2026, 11, 31, 23, 59);
  assert.deepEqual(windowAt("day", at), { id: "2026-12-31", fromMs: Date.UTC(2026, 11, 31), untilMs: Date.UTC(2027, 0, 1) });
  assert.deepEqual(windowAt("month", at), { id: "2026-12", fromMs: Date.UTC(2026, 11, 1), untilMs: Date.UTC(2027, 0, 1) });
  assert.equal(windowAt("total", at).untilMs, Number.POSITIVE_INFINITY);
});

test("fault: what a soft budget's first requests cost counted twice when it was booked before their ingress reported", async () => {
  const { desk, store, clock, another } = await fixture([{ ...BUDGET, mode: "soft" }]);
  const spend = async (attemptId: string, costNanoUsd: bigint): Promise<void> => {
    await clock.advanceAsync(10);
    await store.book([posted(attemptId, { startedAtUs: BigInt(Math.round(clock.now() * 1000)), costNanoUsd })], clock.now());
  };
  const report = async (holder: string, sequence: bigint, sinceMs: number, spentTotal: bigint): Promise<bigint> => {
    const asks = [{ budget: "acme/*/month/soft", window: windowAt("month", clock.now()).id, sinceMs, spentTotal }];
    await (sequence % 2n === 0n ? another() : desk).lease(create(LeaseBudgetRequestSchema, { holder, sequence, asks }));
    return (await desk.list("acme"))[0]!.spentNanoUsd;
  };
  await spend("before", 100n);
  await clock.advanceAsync(10);
  const oneMs = clock.now();
  await spend("one-1", 20n);
  const twoMs = clock.now() + 5;
  await spend("two-1", 3n);
  assert.equal(await report("two", 1n, twoMs, 3n), 123n, "what another began before is booked");
  assert.equal(await report("one", 1n, oneMs, 20n), 123n);
  await spend("one-2", 4_000n);
  assert.equal(await report("one", 2n, oneMs, 4_020n), 4_123n);
  assert.equal(await report("two", 2n, twoMs, 3n), 4_123n);
});
