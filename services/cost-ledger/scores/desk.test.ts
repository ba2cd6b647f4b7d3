import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { type ScoreRecorded, ScoresRecordedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import { type RecordScoreRequest, RecordScoreRequestSchema } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import { createMemoryBus, SUBJECTS } from "#libs/bus/index.ts";
import { FakeClock } from "#libs/clock/fake.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { SqliteDatabase } from "../sqlite-database.ts";
import { posted } from "../store.contract.ts";
import { ScoreDesk } from "./desk.ts";

async function fixture(): Promise<{ desk: ScoreDesk; told: ScoreRecorded[]; settle: () => Promise<void> }> {
  const clock = new FakeClock();
  const bus = createMemoryBus({ clock, logger: silentLogger });
  const store = new SqliteDatabase(":memory:");
  await store.start();
  await store.book([posted("a1", { responseId: "r1", experiment: "x", arm: "b", experimentRevision: 4n })], 1);
  await store.book([posted("a2", { responseId: "r2" })], 1);
  const told: ScoreRecorded[] = [];
  bus.subscribe(SUBJECTS.scoreRecorded, ({ payload }) => void told.push(...fromBinary(ScoresRecordedSchema, payload).scores));
  return { desk: new ScoreDesk({ store, bus, clock }), told, settle: () => clock.advanceAsync(1) };
}

function scoreOf(score: MessageInitShape<typeof RecordScoreRequestSchema>["score"], attributed = false): RecordScoreRequest {
  return create(RecordScoreRequestSchema, { score: { tenant: "acme", responseId: "r1", source: "feedback", ...score }, attributed });
}

test("a score goes to the arm that its answer came from, and is told without its comment", async () => {
  const { desk, told, settle } = await fixture();
  const { found, score } = await desk.record(scoreOf({ score: 0.5, comment: "meh" }));
  await settle();
  assert.deepEqual([found, score?.experiment, score?.arm, score?.experimentRevision, score?.metric], [true, "x", "b", 4n, "quality"]);
  assert.deepEqual([told[0]?.score?.score, told[0]?.score?.comment, told[0]?.replaces], [0.5, "", false]);
  const again = await desk.record(scoreOf({ score: 1 }));
  await settle();
  assert.equal(again.replaces, true);
  assert.deepEqual([told[1]?.replaces, told[1]?.replacedScore], [true, 0.5]);
  const sums = await desk.sums("x");
  assert.deepEqual(
    sums.map(({ arm, count, mean, m2 }) => [arm, count, mean, m2]),
    [["b", 1n, 1, 0]],
  );
});

test("an answer of another tenant, or of nobody, is not found", async () => {
  const { desk } = await fixture();
  assert.equal((await desk.record(scoreOf({ tenant: "other", score: 1 }))).found, false);
  assert.equal((await desk.record(scoreOf({ responseId: "r9", score: 1 }))).found, false);
  assert.deepEqual(await desk.sums(""), []);
});

test("a score outside of experiments is stored and told to nobody", async () => {
  const { desk, told, settle } = await fixture();
  assert.equal((await desk.record(scoreOf({ responseId: "r2", score: 1 }))).found, true);
  await settle();
  assert.deepEqual([told.length, (await desk.sums("")).length], [0, 0]);
});

test("what a judge attributes is stored before its answer is booked", async () => {
  const { desk } = await fixture();
  const judged = { responseId: "r9", source: "judge", score: 0.7, experiment: "x", arm: "b", experimentRevision: 4n };
  assert.equal((await desk.record(scoreOf(judged, true))).found, true);
  assert.equal((await desk.sums("x"))[0]?.source, "judge");
});

test("scores that make no sense are refused", async () => {
  const { desk } = await fixture();
  for (const wrong of [{ score: 1.1 }, { score: Number.NaN }, { score: -1 }, { responseId: "" }, { tenant: "" }, { source: "me" }]) {
    await assert.rejects(desk.record(scoreOf({ score: 1, ...wrong })), { reason: "REQUEST_MALFORMED" });
  }
});
