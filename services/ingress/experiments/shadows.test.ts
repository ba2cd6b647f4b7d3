import assert from "node:assert/strict";
import { once } from "node:events";
import { test, type TestContext } from "node:test";
import { RecordKind } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { type DecideRequest, type Decision, RequestClass, SchemaCheck, ToolAgreement } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { allow, candidate, chatBody, deny, postChat, startIngress, type TestIngress, testConfig } from "../testing.ts";
import { SHADOW_LIMITS } from "./shadows.ts";
import { SIDE_LAG_MS } from "./side-queue.ts";

/** Everything on alpha under the control arm, copied to beta under arm b. */
function decision(request: DecideRequest): Decision {
  const ofX = { experiment: "x", experimentRevision: 3n };
  if (request.role === "shadow") return allow([candidate("beta")], { ...ofX, arm: "b", requestClass: RequestClass.BATCH, maxAttempts: 1 });
  return allow([candidate("alpha")], { ...ofX, arm: "control", shadowExperiment: "x", shadowArm: "b" });
}

async function start(t: TestContext, options: Parameters<typeof startIngress>[0] = {}): Promise<TestIngress> {
  const ingress = await startIngress(options);
  t.after(() => ingress.stop());
  ingress.policy.answer = decision;
  ingress.adapters.answers("alpha", ["hi"]);
  return ingress;
}

/** Copies by fate. */
function fates(ingress: TestIngress): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [, fate, count] of ingress.metrics.render().matchAll(/^signalbox_shadow_copies_total\{.*fate="(\w+)"\} (\d+)/gm)) {
    found[fate!] = Number(count);
  }
  return found;
}

async function requestsDone(ingress: TestIngress, count: number): Promise<void> {
  while (ingress.policy.reports.filter(({ event }) => event.case === "requestDone").length < count)
    await once(ingress.policy.events, "done");
}

test("a copy goes to its arm from the client's own bytes, in class batch, and is booked on the experiment alone", async (t) => {
  const ingress = await start(t);
  ingress.adapters.answers("beta", ["ho"]);
  const headers = { "x-signalbox-tags": "team=search", "x-signalbox-priority": "interactive" };
  const response = await postChat(ingress, chatBody({ user: "kim" }), { headers });
  assert.deepEqual([response.status, response.headers.get("x-signalbox-backend")], [200, "alpha"]);
  await response.arrayBuffer();
  const copy = await ingress.adapters.at(1);
  await requestsDone(ingress, 2);
  assert.equal(copy.open.body, ingress.adapters.attempts[0]!.open.body, "the bytes are shared");
  const [asked, copied] = ingress.policy.requests;
  assert.deepEqual(
    [copied!.role, copied!.forcedArm, copied!.requestClass, copied!.tenant, copied!.tags, copied!.needs],
    ["shadow", "x=b", RequestClass.BATCH, asked!.tenant, { team: "search" }, asked!.needs],
  );
  assert.notEqual(copied!.decisionId, asked!.decisionId);
  const posts = ingress.outbox.records.filter(({ kind }) => kind === RecordKind.POST);
  assert.deepEqual(
    posts.map(({ tenant, team, tags, experiment, arm, role, backend, costNanoUsd }) => [
      tenant,
      team,
      tags,
      experiment,
      arm,
      role,
      backend,
      costNanoUsd,
    ]),
    [
      ["default", "", { team: "search" }, "x", "control", "", "alpha", 20n],
      ["system", "shadow/x", {}, "x", "b", "shadow", "beta", 20n],
    ],
  );
  assert.deepEqual(fates(ingress), { answered: 1 });
  const requests = /signalbox_requests_total\{.*status="200"\} (\d+)/.exec(ingress.metrics.render());
  assert.equal(requests?.[1], "1", "a copy is no request of a client");
});

test("a copy's answer is held against the client's: format and tool calls", async (t) => {
  const ingress = await start(t);
  const call = (text: string): string =>
    JSON.stringify({
      id: "r1",
      choices: [
        { index: 0, message: { content: null, tool_calls: [{ function: { name: "f", arguments: text } }] }, finish_reason: "tool_calls" },
      ],
    });
  const tools = [{ type: "function", function: { name: "f", parameters: {} } }];
  const agreements: (ToolAgreement | undefined)[] = [];
  for (const [own, copied] of [
    ['{"a":1,"b":2}', '{ "b": 2, "a": 1 }'],
    ['{"a":1}', '{"a":2}'],
    ['{"a":1}', "not JSON"],
  ] as const) {
    const played = ingress.adapters.attempts.length;
    ingress.outbox.records.length = 0;
    for (const [backend, text] of [
      ["alpha", own],
      ["beta", copied],
    ] as const)
      ingress.adapters.scripts.set(backend, (attempt) => {
        attempt.data(call(text));
        attempt.ok({ finishReason: "tool_calls" });
      });
    await (await postChat(ingress, chatBody({ tools }))).arrayBuffer();
    await ingress.adapters.at(played + 1);
    await requestsDone(ingress, played + 2);
    agreements.push(ingress.outbox.records.find(({ role, kind }) => role === "shadow" && kind === RecordKind.POST)?.review?.toolAgreement);
  }
  assert.deepEqual(agreements, [ToolAgreement.AGREES, ToolAgreement.DIFFERS, ToolAgreement.DIFFERS]);
  ingress.adapters.answers("alpha", ["{}"]);
  ingress.adapters.answers("beta", ["garbage"]);
  await (await postChat(ingress, chatBody({ response_format: { type: "json_object" } }))).arrayBuffer();
  await requestsDone(ingress, 8);
  const reviews = ingress.outbox.records.filter(({ kind }) => kind === RecordKind.POST).slice(-2);
  assert.deepEqual(
    reviews.map(({ review }) => review?.schema),
    [SchemaCheck.VALID, SchemaCheck.INVALID],
  );
});

test("an arm that hangs holds a bounded number of copies, the rest is dropped, and clients notice nothing", async (t) => {
  const ingress = await start(t);
  const many = SHADOW_LIMITS.runningMax + SHADOW_LIMITS.queueMax + 20;
  for (let sent = 0; sent < many; sent++) {
    const response = await postChat(ingress, chatBody());
    await response.arrayBuffer();
    assert.equal(response.status, 200);
  }
  const waiting = ingress.adapters.attempts.filter(({ open }) => open.backend === "beta");
  assert.equal(waiting.length, SHADOW_LIMITS.runningMax);
  assert.deepEqual(fates(ingress), { dropped_queue: 20 });
  for (const attempt of waiting) attempt.fail("UPSTREAM_UNAVAILABLE");
  await ingress.adapters.at(many + SHADOW_LIMITS.runningMax);
  assert.equal(fates(ingress)["failed"], SHADOW_LIMITS.runningMax);
});

test("a dead arm, a denied one and garbage fail copies alone, once each", async (t) => {
  const ingress = await start(t);
  ingress.adapters.fails("beta", "UPSTREAM_UNAVAILABLE");
  assert.equal((await postChat(ingress, chatBody())).status, 200);
  await requestsDone(ingress, 2);
  ingress.adapters.fails("beta", "UPSTREAM_PROTOCOL");
  assert.equal((await postChat(ingress, chatBody({ stream: true }))).status, 200);
  await requestsDone(ingress, 4);
  assert.equal(ingress.adapters.attempts.filter(({ open }) => open.backend === "beta").length, 2);
  ingress.policy.answer = (request) => (request.role === "shadow" ? deny("NO_BACKEND", "beta: breaker") : decision(request));
  assert.equal((await postChat(ingress, chatBody())).status, 200);
  await requestsDone(ingress, 6);
  assert.deepEqual(fates(ingress), { failed: 3 });
});

test("while the event loop is late nothing is copied, and what runs is given up", async (t) => {
  const loopLag = { lagMs: 0 };
  const ingress = await start(t, { loopLag });
  await (await postChat(ingress, chatBody())).arrayBuffer();
  const running = await ingress.adapters.at(1);
  loopLag.lagMs = SIDE_LAG_MS;
  await once(running.events, "cancel");
  await requestsDone(ingress, 2);
  await (await postChat(ingress, chatBody())).arrayBuffer();
  assert.deepEqual(fates(ingress), { aborted: 1, dropped_lag: 1 });
});

test("copies end with the process, and a request that failed or was left is not copied", async (t) => {
  const ingress = await startIngress({ config: testConfig() });
  ingress.policy.answer = decision;
  ingress.adapters.answers("alpha", ["hi"]);
  await (await postChat(ingress, chatBody())).arrayBuffer();
  const running = await ingress.adapters.at(1);
  ingress.adapters.fails("alpha", "UPSTREAM_REJECTED");
  assert.equal((await postChat(ingress, chatBody())).status, 400);
  await ingress.host.module.drain(1_000);
  assert.equal(running.cancelReason, "canceled");
  await ingress.stop();
  assert.equal(ingress.adapters.attempts.filter(({ open }) => open.backend === "beta").length, 1);
  t.diagnostic("drained");
});
