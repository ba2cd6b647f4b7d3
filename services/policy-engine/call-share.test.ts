import assert from "node:assert/strict";
import { test } from "node:test";
import { Operation } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { callShare } from "./call-share.ts";
import { backend, chosen, config, DONE, ended, model, report, request, STARTED, world } from "./fixture.ts";

const EMBEDS = new Set(["embeddings"] as const);
const small = { operation: Operation.EMBEDDINGS, inputTokens: 10 };

test("an answer is a call, small embeddings share one, large ones take one up, and shares add up exactly", () => {
  assert.equal(callShare({ operation: Operation.CHAT, inputTokens: 10 }), 1);
  assert.equal(callShare(small), 1 / 64);
  assert.equal(callShare({ ...small, inputTokens: 16_000 }), 0.5);
  assert.equal(callShare({ ...small, inputTokens: 1_000_000 }), 1);
  let sum = 0;
  for (let tokens = 0; tokens < 1_000; tokens++) sum += callShare({ ...small, inputTokens: tokens * 7 });
  for (let tokens = 0; tokens < 1_000; tokens++) sum -= callShare({ ...small, inputTokens: tokens * 7 });
  assert.equal(sum, 0);
});

test("a limit of two calls takes 128 small embeddings at once, and the next when one of them ends", async () => {
  const scene = await world(
    config(
      [backend("a", { capabilities: EMBEDS, concurrency: { mode: "fixed", min: 2, max: 2 } })],
      [model("chat", ["a"], { class: "interactive" })],
    ),
  );
  const asked = Array.from({ length: 128 }, () => request("chat", small));
  for (const each of asked) assert.deepEqual(chosen(scene.now(each)), ["a"]);
  const waiting = scene.session.decide(request("chat", small)).decision;
  assert.ok(waiting instanceof Promise, "the 129th waits");
  const [first] = asked;
  scene.session.report(report(first!.decisionId, "a", STARTED));
  scene.session.report(report(first!.decisionId, "a", { case: "ended", value: ended() }));
  scene.session.report(report(first!.decisionId, "a", DONE));
  assert.deepEqual(chosen(await waiting), ["a"]);
  await scene.host.module.stop();
});

test("embeddings are judged without output: their cost is that of the prompt", async () => {
  const scene = await world(config([backend("a", { capabilities: new Set([...EMBEDS, "streaming"]) })], [model("chat", ["a"])]));
  const decision = scene.now(request("chat", { ...small, explain: true }));
  assert.equal(decision.result.case, "allow");
  if (decision.result.case !== "allow") return;
  const answer = scene.now(request("chat", { operation: Operation.CHAT, inputTokens: 10, explain: true }));
  assert.ok(answer.result.case === "allow" && decision.result.value.candidates[0]!.score < answer.result.value.candidates[0]!.score);
  await scene.host.module.stop();
});
