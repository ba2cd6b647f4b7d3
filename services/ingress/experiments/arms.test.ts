import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { GenerateRequestSchema } from "#gen/signalbox/inference/v1/inference_service_pb.ts";
import { RecordKind } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { type AnswerReview, type DecideRequest, type Decision, SchemaCheck } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { allow, answerBody, candidate, chatBody, deny, type FakeAttempt, postChat, startIngress, type TestIngress } from "../testing.ts";

let ingress: TestIngress;

before(async () => {
  ingress = await startIngress();
});
after(() => ingress.stop());
beforeEach(() => {
  ingress.outbox.records.length = 0;
  ingress.policy.reports.length = 0;
  ingress.adapters.attempts.length = 0;
  ingress.adapters.scripts.clear();
});

/** An arm whose candidates are these, with what it changes. */
function arm(name: string, backends: readonly string[], change?: Record<string, unknown>): Decision {
  return allow(
    backends.map((each) => candidate(each)),
    {
      experiment: "x",
      arm: name,
      experimentRevision: 3n,
      ...(change === undefined ? {} : { requestChange: Buffer.from(JSON.stringify(change)) }),
    },
  );
}

function sentOf(attempt: FakeAttempt | undefined): Record<string, unknown> {
  return JSON.parse(Buffer.from(attempt!.open.body).toString()) as Record<string, unknown>;
}

/** What the last attempt's end was reported and booked with. */
function reviews(): { reported: AnswerReview | undefined; booked: AnswerReview | undefined; costNanoUsd: bigint | undefined } {
  const ended = ingress.policy.reports.find(({ event }) => event.case === "ended")?.event;
  const post = ingress.outbox.records.find(({ kind }) => kind === RecordKind.POST);
  const value = ended?.case === "ended" ? ended.value : undefined;
  return { reported: value?.review, booked: post?.review, costNanoUsd: value?.costNanoUsd };
}

test("an arm's change reaches its backends, streamed or not, and its estimate the books", async () => {
  ingress.policy.answer = () => arm("b", ["alpha"], { system: "Be brief.", max_tokens: 7 });
  ingress.adapters.answers("alpha", ["hi"]);
  const plain = await postChat(ingress, chatBody({ temperature: 0.5 }));
  assert.deepEqual([plain.status, plain.headers.get("x-signalbox-experiment")], [200, "x=b"]);
  await plain.arrayBuffer();
  assert.deepEqual(sentOf(ingress.adapters.attempts[0]), {
    ...chatBody({ temperature: 0.5, max_tokens: 7 }),
    messages: [
      { role: "system", content: "Be brief." },
      { role: "user", content: "hello" },
    ],
  });
  const intent = ingress.outbox.records.find(({ kind }) => kind === RecordKind.INTENT);
  const asked = ingress.policy.requests.at(-1)!.inputTokens;
  assert.ok(intent!.usage!.inputTokens > asked, "the longer prompt is reserved for");
  assert.equal(intent!.reservedNanoUsd, BigInt(intent!.usage!.inputTokens + 2 * 7), "and the arm's own output limit");
  const streamed = await postChat(ingress, chatBody({ stream: true }));
  assert.ok((await streamed.text()).endsWith("data: [DONE]\n\n"));
  assert.equal(sentOf(ingress.adapters.attempts[1])["max_tokens"], 7);
});

test("when an arm is spent and the engine answers with the control arm, the change and the name stay behind", async () => {
  const answer = (request: DecideRequest): Decision =>
    request.exclude.length === 0 ? arm("b", ["alpha"], { seed: 1 }) : arm("control", ["beta"]);
  ingress.policy.answer = answer;
  ingress.adapters.fails("alpha", "UPSTREAM_UNAVAILABLE");
  ingress.adapters.answers("beta", ["hi"]);
  const response = await postChat(ingress, chatBody());
  await response.arrayBuffer();
  assert.deepEqual([response.status, response.headers.get("x-signalbox-experiment")], [200, "x=control"]);
  assert.deepEqual(
    ingress.adapters.attempts.map((attempt) => sentOf(attempt)["seed"]),
    [1, undefined],
  );
  assert.deepEqual(
    ingress.outbox.records.filter(({ kind }) => kind === RecordKind.POST).map(({ backend, arm: name }) => [backend, name]),
    [
      ["alpha", "b"],
      ["beta", "control"],
    ],
  );
});

test("answers in experiments are reviewed against the schema their request asked for", async () => {
  ingress.policy.answer = () => arm("b", ["alpha"]);
  const schema = { type: "object", properties: { n: { type: "integer" } }, required: ["n"], additionalProperties: false };
  const format = { response_format: { type: "json_schema", json_schema: { name: "n", schema } } };
  for (const [said, stream, expected] of [
    ['{"n":1}', false, SchemaCheck.VALID],
    ['{"n":1}', true, SchemaCheck.VALID],
    ['{"n":"1"}', true, SchemaCheck.INVALID],
    ["Sure! {", false, SchemaCheck.INVALID],
  ] as const) {
    ingress.policy.reports.length = ingress.outbox.records.length = 0;
    ingress.adapters.answers("alpha", [said.slice(0, 3), said.slice(3)]);
    await (await postChat(ingress, chatBody({ ...format, stream }))).arrayBuffer();
    const { reported, booked, costNanoUsd } = reviews();
    assert.equal(reported?.schema, expected, `${said} ${stream}`);
    assert.deepEqual(booked, reported);
    assert.equal(costNanoUsd, 20n);
  }
});

test("refusals and empty answers are told apart from failures", async () => {
  ingress.policy.answer = () => arm("b", ["alpha"]);
  const refusal = answerBody("").replace('"refusal":null', '"refusal":"I cannot"');
  ingress.adapters.scripts.set("alpha", (attempt) => {
    attempt.data(refusal);
    attempt.ok();
  });
  await (await postChat(ingress, chatBody())).arrayBuffer();
  assert.deepEqual([reviews().reported?.refused, reviews().reported?.empty], [true, false]);
  ingress.policy.reports.length = 0;
  ingress.adapters.scripts.set("alpha", (attempt) => {
    attempt.data(answerBody(""));
    attempt.ok({ garbage: true });
  });
  await (await postChat(ingress, chatBody())).arrayBuffer();
  assert.deepEqual([reviews().reported?.refused, reviews().reported?.empty], [false, true]);
});

test("outside of experiments nothing is reviewed", async () => {
  ingress.policy.answer = () => allow([candidate("alpha")]);
  ingress.adapters.answers("alpha", ["hi"]);
  await (await postChat(ingress, chatBody({ response_format: { type: "json_object" } }))).arrayBuffer();
  assert.deepEqual([reviews().reported, reviews().booked], [undefined, undefined]);
  ingress.policy.answer = () => deny("NO_BACKEND", "nobody");
  assert.equal((await postChat(ingress, chatBody())).status, 503);
});

test("a typed call's request is changed like any other", async () => {
  ingress.policy.answer = () => arm("b", ["alpha"], { system_append: "Be brief.", seed: 7 });
  ingress.adapters.answers("alpha", ["hi"]);
  const messages = [
    { role: "system", content: "You help." },
    { role: "user", content: "hello" },
  ];
  const request = create(GenerateRequestSchema, { model: "chat", messages });
  await ingress.host.inference.generate(request, { headers: {}, signal: new AbortController().signal, timeoutMs: undefined });
  const sent = sentOf(ingress.adapters.attempts[0]);
  assert.equal(sent["seed"], 7);
  assert.match(JSON.stringify(sent["messages"]), /You help\..*Be brief\./);
});
