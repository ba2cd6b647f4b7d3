import assert from "node:assert/strict";
import { test } from "node:test";
import { RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { backend, chosen, config, DONE, ended, model, report, request, STARTED, world } from "./fixture.ts";
import { PaceGuard } from "./pace-guard.ts";

/** Time to first token and pace that are asked for, ms. */
const SLA = { ttftMs: 1_000, tpotMs: 50 };

const POOL = config(
  [backend("gpu", { provider: "vllm" })],
  [model("chat", ["gpu"], { class: "interactive", sla: { ...SLA, deadlineMs: undefined } })],
);

/** Sends `count` requests for answers of `maxOutputTokens` and reports them as started; returns their decision ids. */
function running(scene: Awaited<ReturnType<typeof world>>, count: number, maxOutputTokens: number): string[] {
  return Array.from({ length: count }, () => {
    const asked = request("chat", { inputTokens: 100, maxOutputTokens });
    assert.deepEqual(chosen(scene.now(asked)), ["gpu"]);
    scene.session.report(report(asked.decisionId, "gpu", STARTED));
    return asked.decisionId;
  });
}

/** A prompt that takes about 0.5 s of the engine: more than ten tokens may lose. */
const LONG = { inputTokens: 8_000, maxOutputTokens: 10 };

test("a prompt may make one answer late, not two, and only such as end while it can wait", () => {
  const guard = new PaceGuard();
  guard.enter(100, 300);
  assert.equal(guard.forbids(200, 0, 500), false, "one for one is no gain");
  const second = guard.enter(100, 400)!;
  assert.equal(guard.forbids(200, 0, 500), true);
  assert.equal(guard.forbids(90, 0, 500), false, "they have that much time");
  assert.equal(guard.forbids(200, 0, 350), false, "one runs on for longer than it can wait");
  assert.equal(guard.forbids(200, 350, 850), false, "one should have ended: nobody knows when it will");
  guard.leave(second);
  assert.equal(guard.forbids(200, 0, 500), false);
});

test("prompts take the time of the answers that run, and one that is late already is not waited for", () => {
  const guard = new PaceGuard();
  for (let count = 0; count < 2; count++) guard.enter(100, 300);
  guard.stall(60);
  assert.equal(guard.forbids(50, 0, 500), true, "40 ms are left to each");
  guard.stall(60);
  assert.equal(guard.forbids(50, 0, 500), false, "nothing is left to save");
});

test("the number of answers followed is bounded", () => {
  const guard = new PaceGuard();
  let entered = 0;
  while (guard.enter(0, 0) !== undefined) entered++;
  assert.equal(guard.size, entered);
  assert.equal(entered, 256);
});

test("a long prompt waits for short answers, goes as soon as they have ended, and leaves nothing behind", async () => {
  const scene = await world(POOL);
  const ids = running(scene, 2, 10);
  const { decision } = scene.session.decide(request("chat", LONG));
  assert.ok(decision instanceof Promise, "it waits");
  for (const id of ids) {
    scene.session.report(report(id, "gpu", { case: "ended", value: ended() }));
    scene.session.report(report(id, "gpu", DONE));
  }
  const given = await decision;
  assert.deepEqual(chosen(given), ["gpu"]);
  assert.ok(given.queueMs < 50, String(given.queueMs));
  await scene.host.module.stop();
});

test("it waits for half its own time at most", async () => {
  const scene = await world(POOL);
  running(scene, 2, 10);
  let settledAtMs = Number.NaN;
  const { decision } = scene.session.decide(request("chat", LONG));
  void Promise.resolve(decision).then(() => (settledAtMs = scene.clock.monotonicMs()));
  const fromMs = scene.clock.monotonicMs();
  await scene.clock.advanceAsync(2_000);
  assert.ok(settledAtMs - fromMs <= 550, `it went after ${settledAtMs - fromMs} ms`);
  await scene.host.module.stop();
});

test("nobody waits for long answers, nor does a short prompt, a whole answer, a failover or batch work wait", async () => {
  const scene = await world(POOL);
  running(scene, 4, 2_000);
  assert.deepEqual(chosen(scene.now(request("chat", LONG))), ["gpu"], "long answers");
  const other = await world(POOL);
  running(other, 2, 10);
  assert.deepEqual(chosen(other.now(request("chat", { ...LONG, stream: false }))), ["gpu"], "nobody watches its first token");
  assert.deepEqual(chosen(other.now(request("chat", { inputTokens: 100 }))), ["gpu"], "short prompt");
  const third = await world(POOL);
  running(third, 2, 10);
  assert.deepEqual(chosen(third.now(request("chat", { ...LONG, exclude: ["gone"] }))), ["gpu"], "failover");
  const fourth = await world(POOL);
  running(fourth, 2, 10);
  assert.deepEqual(chosen(fourth.now(request("chat", { ...LONG, requestClass: RequestClass.BATCH }))), ["gpu"], "batch");
  for (const each of [scene, other, third, fourth]) await each.host.module.stop();
});

test("where a class has no place to wait in, nobody is refused for the sake of others", async () => {
  const { classes } = POOL;
  const none = { ...POOL, classes: { ...classes, interactive: { ...classes.interactive, queueMax: 0 } } };
  const scene = await world(none);
  running(scene, 2, 10);
  assert.deepEqual(chosen(scene.now(request("chat", LONG))), ["gpu"]);
  await scene.host.module.stop();
});
