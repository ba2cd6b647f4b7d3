import assert from "node:assert/strict";
import { test } from "node:test";
import { RecordKind } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { FakeClock, SeededRandom } from "#libs/clock/fake.ts";
import { FaultFiles, type FaultRates } from "./fault-files.ts";
import { openOutbox, type Outbox } from "./outbox.ts";
import { decodeRecord } from "./recovery.ts";
import { sampleRecord } from "./sample-record.ts";

const SEEDS = Number(process.env["SIGNALBOX_SEEDS"] ?? 10_000);

/** What the world outside knows of one attempt. */
interface Attempt {
  readonly id: string;
  readonly cost: bigint;
  intentAcknowledged: boolean;
  ended: "open" | "post" | "void";
  endAcknowledged: boolean;
}

interface Life {
  readonly clock: FakeClock;
  readonly random: SeededRandom;
  readonly attempts: Map<string, Attempt>;
  /** Attempts in the ledger. */
  readonly booked: Map<string, { readonly cost: bigint; readonly estimated: boolean }>;
}

function open(life: Life, files: FaultFiles): Outbox {
  const { clock } = life;
  const durability = (["strict", "overlapped", "relaxed"] as const)[life.random.int(3)]!;
  const onFull = life.random.next() < 0.5 ? "block" : "memory";
  return openOutbox({
    id: "o",
    files,
    clock,
    durability,
    maxBytes: 512 * 1024,
    onFull,
    defer: (callback) => void clock.after(0, callback),
  });
}

/** Requests begin, end and are shipped at random until the power fails. */
function liveUntilPowerLoss(life: Life, outbox: Outbox, tag: string): void {
  const { clock, random, attempts } = life;
  const running: Attempt[] = [];
  const steps = 5 + random.int(25);
  for (let step = 0; step < steps; step++) {
    const dice = random.next();
    if (dice < 0.5) {
      const attempt: Attempt = {
        id: `0192a5d3-7c1e-7abc-8def-${tag}${String(step).padStart(6, "0")}`,
        cost: BigInt(1 + random.int(1_000_000)),
        intentAcknowledged: false,
        ended: "open",
        endAcknowledged: false,
      };
      attempts.set(attempt.id, attempt);
      outbox.append(sampleRecord(RecordKind.INTENT, attempt.id, attempt.cost));
      outbox.whenDurable((error) => void (attempt.intentAcknowledged ||= error === undefined));
      running.push(attempt);
    } else if (dice < 0.8 && running.length > 0) {
      const [attempt] = running.splice(random.int(running.length), 1);
      attempt!.ended = random.next() < 0.9 ? "post" : "void";
      outbox.append(sampleRecord(attempt!.ended === "post" ? RecordKind.POST : RecordKind.VOID, attempt!.id, attempt!.cost));
      outbox.whenDurable((error) => void (attempt!.endAcknowledged ||= error === undefined));
    } else if (dice < 0.9) ship(life, outbox);
    clock.advance(random.next() < 0.6 ? random.next() : random.next() * 150);
  }
}

/** Books what the outbox offers, as the ledger would: once per attempt, a real end over an estimate. */
function ship(life: Life, outbox: Outbox): void {
  const records = outbox.read(outbox.committed, 1 + life.random.int(20), 64 * 1024);
  for (const { payload } of records) {
    const record = decodeRecord(payload);
    const known = life.attempts.get(record.attemptId);
    assert.ok(known, "a record nobody wrote");
    assert.equal(record.costNanoUsd, known.cost, "a record that was changed");
    const estimated = record.kind === RecordKind.EXPIRE;
    if (!life.booked.has(record.attemptId) || life.booked.get(record.attemptId)!.estimated) {
      life.booked.set(record.attemptId, { cost: record.costNanoUsd, estimated });
    }
  }
  if (records.length > 0) outbox.commit(records.at(-1)!.sequence);
}

function checkNothingLost(life: Life): void {
  for (const attempt of life.attempts.values()) {
    if (attempt.ended === "post" && attempt.endAcknowledged) assert.ok(life.booked.has(attempt.id), `${attempt.id}: acknowledged end lost`);
    if (attempt.ended === "open" && attempt.intentAcknowledged)
      assert.ok(life.booked.has(attempt.id), `${attempt.id}: acknowledged intent lost`);
  }
}

const NO_FAULTS: FaultRates = { write: 0, sync: 0 };

function simulate(seed: number, rates: FaultRates): { readonly flipped: boolean; readonly noticed: boolean } {
  const random = new SeededRandom(seed);
  const clock = new FakeClock();
  const life: Life = { clock, random, attempts: new Map(), booked: new Map() };
  let files = new FaultFiles(clock, random, rates);
  let flipped = false;
  let noticed = false;
  for (const tag of ["000000", "111111"]) {
    const outbox = open(life, files);
    liveUntilPowerLoss(life, outbox, tag);
    files = random.next() < 0.7 ? files.powerLoss() : files.kill();
    if (tag === "111111" && random.next() < 0.7) flipped = files.flipDurableBit() !== undefined;
  }
  const last = open(life, files);
  noticed = last.recovery.repaired + last.recovery.lost > 0;
  for (let round = 0; round < 200 && last.committed < last.lastBooked; round++) {
    ship(life, last);
    clock.advance(50);
  }
  assert.equal(last.committed, last.lastBooked, "everything is shipped");
  checkNothingLost(life);
  return { flipped, noticed };
}

test(`power loss, torn writes and a flipped bit lose no acknowledged record and no damage goes unseen (${SEEDS} seeds)`, () => {
  let flips = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    try {
      const result = simulate(seed, NO_FAULTS);
      if (result.flipped) {
        flips++;
        assert.ok(result.noticed, "the flipped bit was not noticed");
      }
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
  assert.ok(flips > SEEDS / 3, "most runs flip a bit");
});

test("a disk that refuses writes and syncs, and then loses power, loses no acknowledged record in block mode", () => {
  for (let seed = 1; seed <= SEEDS / 10; seed++) {
    const random = new SeededRandom(seed);
    const clock = new FakeClock();
    const life: Life = { clock, random, attempts: new Map(), booked: new Map() };
    const files = new FaultFiles(clock, random, { write: 0.2, sync: 0.2 });
    const options = { id: "o", clock, durability: "overlapped", maxBytes: 512 * 1024, onFull: "block" } as const;
    const defer = (callback: () => void): void => void clock.after(0, callback);
    liveUntilPowerLoss(life, openOutbox({ ...options, files, defer }), "000000");
    const found = files.powerLoss();
    const last = openOutbox({ ...options, files: found, defer });
    for (let round = 0; round < 500 && last.committed < last.lastBooked; round++) {
      ship(life, last);
      clock.advance(50);
    }
    try {
      checkNothingLost(life);
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
});
