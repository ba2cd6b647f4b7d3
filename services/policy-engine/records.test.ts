import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { DecisionRecordSchema } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import { FakeClock } from "#libs/clock/fake.ts";
import { evidence, recordsContract } from "./records.contract.ts";
import { writeEvidence } from "./decision-writer.ts";
import type { Evidence } from "./engine.ts";
import { readBlock } from "./record-blocks.ts";
import { type RecordPort, StoredRecords } from "./records-file.ts";
import { MemoryRecords, recordOf } from "./records.ts";

/** A port that keeps blocks in memory. */
class MemoryPort implements RecordPort {
  readonly kept: Uint8Array[] = [];
  append(block: Uint8Array): void {
    this.kept.push(block);
  }
  keepPolicy(): void {}
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
  const records = new StoredRecords(port, clock, 2_000);
  const old = evidence({ decisionId: "old", requestId: "r" });
  records.keep(old);
  clock.advance(1_000);
  records.link(old, "late-id");
  for (let count = 0; count < 10; count++) records.keep(evidence());
  clock.advance(1_000);
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

/** The same decision with another upstream model behind the same backends, and candidates of which little is known. */
function renamed(each: Evidence, upstreamModel: string): Evidence {
  const { result } = each.decision;
  assert.ok(result.case === "allow");
  const candidates = result.value.candidates.map((candidate) => ({ ...candidate, upstreamModel, score: 0, firstTokenTimeoutMs: 0 }));
  return { ...each, decision: { ...each.decision, result: { case: "allow", value: { ...result.value, candidates } } } };
}

test("what is kept is the record that the message's own codec would have written", () => {
  const plain = evidence({
    tags: { team: "größer", empty: "" },
    exclude: ["x", ""],
    prefixHashes: new Uint8Array(200),
    unit: "u".repeat(60),
  });
  const nobody = evidence({ needs: 1 << 20, explain: true, maxCostNanoUsd: -5n });
  assert.equal(nobody.decision.result.case, "deny");
  const judged = { candidates: nobody.excluded.map((each) => ({ ...each, enginePriority: -3 })), terms: [], excluded: nobody.excluded };
  const rich: Evidence = { ...plain, others: { ...judged, terms: plain.terms }, excluded: nobody.excluded };
  for (const each of [plain, nobody, rich, renamed(plain, "n".repeat(300)), renamed(plain, "other"), plain]) {
    const expected = toBinary(DecisionRecordSchema, recordOf(each));
    assert.deepEqual(fromBinary(DecisionRecordSchema, Uint8Array.from(writeEvidence(each))), fromBinary(DecisionRecordSchema, expected));
  }
});

test("records larger than a block, and many of them, are kept as they came", async () => {
  const port = new MemoryPort();
  const clock = new FakeClock();
  const records = new StoredRecords(port, clock);
  const large = evidence({ decisionId: "large", prefixHashes: new Uint8Array(100_000).fill(7) });
  records.keep(large);
  for (let count = 0; count < 200; count++) records.keep(evidence({ decisionId: `d${count}`, requestId: `r${count}` }));
  clock.advance(250);
  records.link(large, "one");
  records.link(large, "two");
  records.close();
  assert.ok(port.kept.length < 12, `${port.kept.length} writes`);
  const ids = port.kept.flatMap(readBlock).map((record) => record.request?.decisionId);
  assert.deepEqual(ids, ["large", ...Array.from({ length: 200 }, (_, count) => `d${count}`), "large", "large"]);
  for (const id of ["large", "one", "two"]) {
    const record = await new StoredRecords(port, clock).find(id);
    assert.deepEqual(record?.request?.prefixHashes, Buffer.from(large.request.prefixHashes));
    assert.deepEqual(record?.responseIds, ["one", "two"]);
  }
});
