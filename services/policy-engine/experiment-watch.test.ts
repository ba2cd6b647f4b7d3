import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { AnswerReviewSchema, SchemaCheck, ToolAgreement } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Experiment } from "#libs/experiments/index.ts";
import { twoArms } from "#libs/experiments/testing.ts";
import { type Breach, ExperimentWatch } from "./experiment-watch.ts";
import { ended, failed } from "./fixture.ts";

const EXPERIMENT: Experiment = twoArms();

test("ten failures in a row, or half of the last twenty, stop an arm without statistics, once", () => {
  const breaches: Breach[] = [];
  const watch = new ExperimentWatch((breach) => breaches.push(breach));
  for (let count = 0; count < 15; count++) watch.ended(EXPERIMENT, "b", failed("UPSTREAM_TIMEOUT"));
  assert.deepEqual(
    breaches.map(({ reason }) => reason),
    ["arm b: 10 failures in a row"],
  );
  watch.tellAgain("e");
  watch.ended(EXPERIMENT, "b", failed("UPSTREAM_TIMEOUT"));
  assert.equal(breaches.length, 2);
  const other = new ExperimentWatch((breach) => breaches.push(breach));
  for (let count = 0; count < 20; count++) other.ended(EXPERIMENT, "b", count % 2 === 0 ? failed("UPSTREAM_TIMEOUT") : ended());
  assert.equal(breaches[2]?.reason, "arm b: 10 of the last 20 failed");
});

test("an arm whose backends are all broken is stopped, the control arm never", () => {
  const breaches: Breach[] = [];
  const watch = new ExperimentWatch((breach) => breaches.push(breach));
  watch.broken(EXPERIMENT, "control");
  watch.broken({ ...EXPERIMENT, state: "rolled_back" }, "b");
  assert.deepEqual(breaches, []);
  watch.broken(EXPERIMENT, "b");
  watch.broken(EXPERIMENT, "b");
  assert.deepEqual(
    breaches.map(({ arm }) => arm),
    ["b"],
  );
});

test("what was seen is told whole, when there is news, and again when it did not arrive", () => {
  const watch = new ExperimentWatch(() => {});
  assert.deepEqual(watch.takeNews(), []);
  watch.assigned(EXPERIMENT, "b", "user-1");
  watch.assigned(EXPERIMENT, "b", "user-1");
  watch.assigned(EXPERIMENT, "b", "user-2");
  watch.ended(EXPERIMENT, "b", ended({ ttftMs: 100, durationMs: 590, outputTokens: 50 }));
  watch.ended(EXPERIMENT, "b", failed("UPSTREAM_TIMEOUT"));
  watch.ended(EXPERIMENT, "b", ended({ review: { refused: true, schema: SchemaCheck.INVALID } }));
  const sums = { answered: true, costNanoUsd: 2_000, answerTokens: 50, failed: 0 };
  watch.requestDone(EXPERIMENT, "b", sums);
  watch.requestDone(EXPERIMENT, "b", { ...sums, failed: 2 });
  const [news] = watch.takeNews();
  const arm = news!.arms.get("b")!;
  const shown = Object.fromEntries(Array.from(arm.metrics, ([name, { count, mean }]) => [name, [count, Math.round(mean * 1_000) / 1_000]]));
  assert.equal(arm.units, 2);
  assert.deepEqual(
    [shown["error"], shown["retry"], shown["cost"], shown["cost_per_1k"], shown["refusal"], shown["empty"], shown["schema_valid"]],
    [
      [3, 0.333],
      [2, 0.5],
      [2, 2_000],
      [2, 40_000],
      [1, 1],
      [1, 0],
      [1, 0],
    ],
  );
  assert.ok(Math.abs(Math.exp(arm.metrics.get("ttft")!.mean) - 100) < 1e-9);
  assert.deepEqual(watch.takeNews(), []);
  watch.tellNewsAgain();
  assert.equal(watch.takeNews().length, 1);
});

test("units and failures count under one revision's weights, samples over the whole run", () => {
  const breaches: Breach[] = [];
  const watch = new ExperimentWatch((breach) => breaches.push(breach));
  watch.assigned(EXPERIMENT, "b", "user-1");
  for (let count = 0; count < 9; count++) watch.ended(EXPERIMENT, "b", failed("UPSTREAM_TIMEOUT"));
  watch.ended({ ...EXPERIMENT, revision: 2 }, "b", failed("UPSTREAM_TIMEOUT"));
  const [news] = watch.takeNews();
  assert.deepEqual([news!.revision, news!.arms.get("b")!.units, news!.arms.get("b")!.metrics.get("error")!.count], [2, 0, 10]);
  assert.deepEqual(breaches, []);
  watch.ended({ ...EXPERIMENT, revision: 3, startedRevision: 3 }, "b", ended());
  assert.equal(watch.takeNews()[0]!.arms.get("b")!.metrics.get("error")!.count, 1);
});

test("copies are compared apart, and kill nobody", () => {
  const told: string[] = [];
  const watch = new ExperimentWatch(({ reason }) => told.push(reason));
  const review = create(AnswerReviewSchema, { textBytes: 40, schema: SchemaCheck.VALID, toolAgreement: ToolAgreement.DIFFERS });
  const ok = ended({ outputTokens: 10, costNanoUsd: 50n, review });
  for (let count = 0; count < 30; count++) watch.copied(EXPERIMENT, "b", failed("UPSTREAM_UNAVAILABLE"));
  watch.copied(EXPERIMENT, "b", ok);
  const [news] = watch.takeNews();
  assert.deepEqual([told, [...news!.arms.keys()]], [[], ["shadow:b"]]);
  const means = Object.fromEntries([...news!.arms.get("shadow:b")!.metrics].map(([metric, { count, mean }]) => [metric, [count, mean]]));
  assert.deepEqual([means["error"]![0], means["cost"], means["cost_per_1k"], means["length"]], [31, [1, 50], [1, 5_000], [1, 40]]);
  assert.deepEqual(
    [means["schema_valid"], means["tool_agreement"]],
    [
      [1, 1],
      [1, 0],
    ],
  );
});
