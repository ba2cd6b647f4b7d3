import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { test, type TestContext } from "node:test";
import { create } from "@bufbuild/protobuf";
import { RecordKind } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { type RecordScoreRequest, RecordScoreResponseSchema } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import { type DecideRequest, type Decision, RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { ExperimentConfig } from "#libs/config/index.ts";
import { allow, answerBody, candidate, chatBody, postChat, startIngress, type TestIngress, testConfig } from "../testing.ts";

const EXPERIMENT: ExperimentConfig = {
  name: "x",
  model: "chat",
  unit: "user",
  layer: "chat",
  arms: new Map(),
  guards: { errorRate: undefined, ttft: undefined, cost: undefined, quality: -0.02, action: "rollback" },
  shareShadow: 0,
  shadowBudgetNanoUsd: 0n,
  steps: [],
  judge: { model: "chat", share: 1, budgetNanoUsd: 1_000_000_000n, prompt: undefined },
};

interface Scene {
  readonly ingress: TestIngress;
  readonly scores: RecordScoreRequest[];
  readonly events: EventEmitter;
}

function decision(request: DecideRequest): Decision {
  if (request.role === "judge") return allow([candidate("beta")], { requestClass: RequestClass.BATCH });
  return allow([candidate("alpha")], { experiment: "x", experimentRevision: 3n, arm: "b" });
}

async function start(t: TestContext, experiment = EXPERIMENT, left = 1_000_000_000n): Promise<Scene> {
  const scores: RecordScoreRequest[] = [];
  const events = new EventEmitter();
  const ledger = {
    recordScore: (request: RecordScoreRequest) => {
      scores.push(request);
      events.emit("score");
      return Promise.resolve(create(RecordScoreResponseSchema, { found: true }));
    },
    // Lends while something is left.
    leaseBudget: (request: { readonly asks: readonly { readonly budget: string; readonly window: string; readonly want: bigint }[] }) =>
      Promise.resolve({
        grants: request.asks.map(({ budget, window, want }) => ({
          budget,
          window,
          granted: want < left ? want : 0n,
          known: true,
          left,
          recall: false,
        })),
        holders: 1,
      }),
  };
  const config = testConfig({ experiments: new Map([["x", experiment]]) });
  const ingress = await startIngress({ config, ledger: ledger as never });
  t.after(() => ingress.stop());
  ingress.policy.answer = decision;
  ingress.adapters.answers("alpha", ["forty-two"]);
  return { ingress, scores, events };
}

/** A judge that gives this score, or says this with the word in place of WORD. */
function judgeSays({ ingress }: Scene, reply: string): void {
  ingress.adapters.scripts.set("beta", (attempt) => {
    const word =
      /"verdict":\\"(\w+)/.exec(Buffer.from(attempt.open.body).toString())?.[1] ??
      /verdict\\":\\"(\w+)/.exec(Buffer.from(attempt.open.body).toString())![1]!;
    attempt.data(answerBody(reply.replace("WORD", word)));
    attempt.ok();
  });
}

async function done(ingress: TestIngress, count: number): Promise<void> {
  while (ingress.policy.reports.filter(({ event }) => event.case === "requestDone").length < count)
    await once(ingress.policy.events, "done");
}

test("a judge's verdict becomes a score of the arm; the judge is paid by the experiment", async (t) => {
  const scene = await start(t);
  judgeSays(scene, '{"verdict":"WORD","score":8}');
  const { ingress, scores, events } = scene;
  await (await postChat(ingress, chatBody({ stream: true }))).text();
  if (scores.length === 0) await once(events, "score");
  const { score, attributed } = scores[0]!;
  assert.deepEqual(
    [attributed, score?.source, score?.metric, score?.score, score?.experiment, score?.arm, score?.experimentRevision, score?.responseId],
    [true, "judge", "quality", 0.8, "x", "b", 3n, "r1"],
  );
  assert.equal(score?.tenant, "default");
  const judge = ingress.policy.requests.find(({ role }) => role === "judge");
  assert.deepEqual([judge?.tenant, judge?.requestClass, judge?.model], ["default", RequestClass.BATCH, "chat"]);
  const entry = ingress.outbox.records.find(({ role, kind }) => role === "judge" && kind === RecordKind.POST);
  assert.deepEqual([entry?.tenant, entry?.team, entry?.experiment, entry?.arm], ["system", "judge/x", "x", "b"]);
});

test("garbage from a judge is counted and ignored, and so is one that fails", async (t) => {
  const scene = await start(t);
  const { ingress, scores } = scene;
  judgeSays(scene, 'Great answer! {"verdict":"WORD","score":10}');
  await (await postChat(ingress, chatBody())).arrayBuffer();
  await done(ingress, 2);
  ingress.adapters.fails("beta", "UPSTREAM_REJECTED");
  await (await postChat(ingress, chatBody())).arrayBuffer();
  await done(ingress, 4);
  assert.deepEqual(scores, []);
  const metrics = ingress.metrics.render();
  assert.match(metrics, /signalbox_judgements_total\{experiment="x",fate="garbage"\} 1/);
  assert.match(metrics, /signalbox_judgements_total\{experiment="x",fate="failed"\} 1/);
});

test("a judge without a budget left is not asked", async (t) => {
  const { ingress } = await start(t, EXPERIMENT, 0n);
  for (let sent = 0; sent < 2; sent++) await (await postChat(ingress, chatBody())).arrayBuffer();
  assert.deepEqual(
    ingress.adapters.attempts.map(({ open }) => open.backend),
    ["alpha", "alpha"],
  );
});

test("only a sample is judged", async (t) => {
  const scene = await start(t, { ...EXPERIMENT, judge: { ...EXPERIMENT.judge!, share: 0 } });
  await (await postChat(scene.ingress, chatBody())).arrayBuffer();
  await done(scene.ingress, 1);
  assert.deepEqual(
    scene.ingress.policy.requests.map(({ role }) => role),
    [""],
  );
});
