import assert from "node:assert/strict";
import { test } from "node:test";
import { RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { DecideRequest } from "#libs/peers/index.ts";
import { backend, chosen, config, DONE, ended, model, report, request, STARTED, type World, world } from "./fixture.ts";

const BATCH = { requestClass: RequestClass.BATCH, stream: true } as const;
const URGENT = { requestClass: RequestClass.INTERACTIVE, stream: true } as const;
const FIRST = { case: "firstToken", value: { $typeName: "signalbox.policy.v1.AttemptFirstToken", ttftMs: 50 } } as const;

/** One backend with room for `max`, all of it open to batch; what was asked to yield is noted. */
async function scene(max: number): Promise<{ readonly scene: World; readonly asked: string[] }> {
  const { classes } = config([], []);
  const open = { classes: { ...classes, batch: { ...classes.batch, ceiling: 1 } } };
  const made = await world(config([backend("a", { concurrency: { mode: "fixed", min: max, max } })], [model("chat", ["a"])], open));
  const asked: string[] = [];
  made.session.onPreemption(({ decisionId, attemptId }) => asked.push(`${decisionId} ${attemptId}`));
  return { scene: made, asked };
}

/** Decides a request and starts its attempt. */
function start(scene: World, wanted: DecideRequest): string {
  assert.deepEqual(chosen(scene.now(wanted)), ["a"]);
  const started = report(wanted.decisionId, "a", STARTED);
  scene.session.report(started);
  return `${wanted.decisionId} ${started.attemptId}`;
}

test("an interactive request that finds no room has the newest batch attempt without content yield, and gets its place", async () => {
  const { scene: made, asked } = await scene(2);
  start(made, request("chat", BATCH));
  const newest = request("chat", BATCH);
  const victim = start(made, newest);
  const waiting = made.session.decide(request("chat", URGENT)).decision;
  assert.ok(waiting instanceof Promise);
  assert.deepEqual(asked, [victim]);
  made.session.report(report(newest.decisionId, "a", { case: "ended", value: ended({ outcome: 3 }) }));
  assert.deepEqual(chosen(await waiting), ["a"]);
  await made.host.module.stop();
});

test("who yielded goes to the head of its class, and yields twice at most", async () => {
  const { scene: made, asked } = await scene(1);
  const victim = request("chat", BATCH);
  start(made, victim);
  for (let round = 1; round <= 3; round++) {
    const urgent = request("chat", URGENT);
    const waiting = made.session.decide(urgent).decision;
    assert.equal(asked.length, Math.min(round, 2), `round ${round}`);
    if (round === 3) break;
    const other = made.session.decide(request("chat", BATCH));
    const again = made.session.decide(victim).decision;
    made.session.report(report(victim.decisionId, "a", { case: "ended", value: ended({ outcome: 3 }) }));
    assert.deepEqual(chosen(await waiting), ["a"]);
    made.session.report(report(urgent.decisionId, "a", DONE));
    assert.deepEqual(chosen(await again), ["a"], "before the batch request that waited longer");
    other.cancel();
    made.session.report(report(victim.decisionId, "a", STARTED));
  }
  await made.host.module.stop();
});

test("nobody yields who has content, is of a better class, or is at a backend that would not help", async () => {
  const { scene: made, asked } = await scene(1);
  const running = request("chat", BATCH);
  start(made, running);
  made.session.report(report(running.decisionId, "a", FIRST));
  void made.session.decide(request("chat", URGENT));
  assert.deepEqual(asked, [], "it has content");
  await made.host.module.stop();

  const { scene: other, asked: none } = await scene(1);
  start(other, request("chat", { ...BATCH, requestClass: RequestClass.STANDARD }));
  void other.session.decide(request("chat", URGENT));
  void other.session.decide(request("chat", BATCH));
  assert.deepEqual(none, [], "standard work runs on, and batch work waits for batch work");
  await other.host.module.stop();
});
