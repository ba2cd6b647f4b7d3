import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock } from "#libs/clock/fake.ts";
import { evidence, recordsContract } from "./records.contract.ts";
import { type RecordPort, StoredRecords } from "./records-file.ts";
import { MemoryRecords } from "./records.ts";

/** A port that keeps blocks in memory. */
class MemoryPort implements RecordPort {
  readonly kept: Uint8Array[] = [];
  drops = 0;
  append(block: Uint8Array): void {
    this.kept.push(block);
  }
  keepPolicy(): void {}
  dropped(): void {
    this.drops++;
  }
  async *blocks(): AsyncIterable<Uint8Array> {
    yield* this.kept.toReversed();
  }
}

recordsContract("memory", () => new MemoryRecords());
recordsContract("stored", () => new StoredRecords(new MemoryPort(), new FakeClock()));

test("the ring in memory forgets the oldest when its bytes are full", async () => {
  const records = new MemoryRecords(5_000);
  for (let count = 0; count < 10; count++) records.keep(evidence({ decisionId: `d${count}` }));
  assert.equal(await records.find("d0"), undefined);
  assert.ok((await records.find("d9")) !== undefined);
  assert.ok((await records.find("d7")) !== undefined);
});

test("what memory has let go is found behind the port, also by a response id that came later", async () => {
  const clock = new FakeClock();
  const port = new MemoryPort();
  const records = new StoredRecords(port, clock, new MemoryRecords(2_000));
  const old = evidence({ decisionId: "old", requestId: "r" });
  records.keep(old);
  clock.advance(1_000);
  records.link(old, "late-id");
  for (let count = 0; count < 10; count++) records.keep(evidence());
  clock.advance(1_000);
  assert.equal(port.kept.length, 2);
  for (const id of ["old", "r", "late-id"]) {
    const record = await records.find(id);
    assert.equal(record?.request?.decisionId, "old", id);
    assert.equal(record.decision?.excluded.length, 0);
  }
  const afterRestart = new StoredRecords(port, clock);
  assert.ok((await afterRestart.last()) !== undefined);
  assert.deepEqual((await afterRestart.find("late-id"))?.responseIds, ["late-id"]);
});

test("a torn block gives what is whole in it", async () => {
  const clock = new FakeClock();
  const port = new MemoryPort();
  const records = new StoredRecords(port, clock);
  records.keep(evidence({ decisionId: "whole" }));
  records.keep(evidence({ decisionId: "torn" }));
  records.close();
  port.kept[0] = port.kept[0]!.subarray(0, port.kept[0]!.length - 3);
  const afterCrash = new StoredRecords(port, clock);
  assert.ok((await afterCrash.find("whole")) !== undefined);
  assert.equal(await afterCrash.find("torn"), undefined);
});

test("decisions that come faster than they are written stay in memory alone, and are counted", async () => {
  const port = new MemoryPort();
  const records = new StoredRecords(port, new FakeClock());
  const same = evidence({ decisionId: "d" });
  for (let count = 0; count < 8_200; count++) records.keep(same);
  assert.equal(port.drops, 8);
  records.close();
  assert.ok(port.kept.length > 8_192 / 64);
});
