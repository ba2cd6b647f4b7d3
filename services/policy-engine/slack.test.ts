import assert from "node:assert/strict";
import { test } from "node:test";
import { RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { backend, chosen, config, model, report, request, STARTED, world } from "./fixture.ts";

test("batch work below its deadline waits for headroom, and takes what room there is when its time runs out", async () => {
  const { classes } = config([], []);
  // No guaranteed share: only the deadline can bring it through its ceiling of half of four.
  const held = { classes: { ...classes, batch: { ...classes.batch, ceiling: 0.5, minShare: 0 } } };
  const scene = await world(config([backend("a", { concurrency: { mode: "fixed", min: 4, max: 4 } })], [model("chat", ["a"])], held));
  for (let count = 0; count < 2; count++) {
    const urgent = request("chat", { requestClass: RequestClass.INTERACTIVE });
    assert.deepEqual(chosen(scene.now(urgent)), ["a"]);
    scene.session.report(report(urgent.decisionId, "a", STARTED));
  }
  let settled = false;
  const waiting = Promise.resolve(
    scene.session.decide(request("chat", { requestClass: RequestClass.BATCH, deadlineMs: 120_000 })).decision,
  );
  void waiting.then(() => (settled = true));
  await scene.clock.advanceAsync(40_000);
  assert.equal(settled, false, "it has time");
  await scene.clock.advanceAsync(75_000);
  assert.equal(settled, true, "it has none left");
  assert.deepEqual(chosen(await waiting), ["a"]);
  await scene.host.module.stop();
});
