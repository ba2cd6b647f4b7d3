import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, beforeEach, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { createClient, createRouterTransport } from "@connectrpc/connect";
import { GenerateRequestSchema, InferenceService } from "#gen/signalbox/inference/v1/inference_service_pb.ts";
import { inferenceRpc } from "./index.ts";
import { startIngress, type TestIngress } from "./testing.ts";

let ingress: TestIngress;
let client: ReturnType<typeof createClient<typeof InferenceService>>;
before(async () => {
  ingress = await startIngress();
  const { descriptor, implementation } = inferenceRpc(ingress.host);
  client = createClient(
    InferenceService,
    createRouterTransport((router) => void router.service(descriptor, implementation)),
  );
});
after(() => ingress.stop());
beforeEach(() => {
  ingress.adapters.scripts.clear();
  ingress.adapters.attempts.length = 0;
  ingress.policy.requests.length = 0;
});

const REQUEST = create(GenerateRequestSchema, {
  model: "chat",
  messages: [{ role: "user", content: "hello", parts: [] }],
  tools: [{ name: "f", description: "d", parameters: { type: "object" } }],
  toolChoice: "f",
  maxOutputTokens: 7,
  temperature: 0.5,
  metadata: { team: "search" },
  priority: "batch",
  user: "u",
  extra: { verbosity: "low" },
});

test("generate encodes typed fields once to OpenAI chat and decodes the answer", async () => {
  ingress.adapters.answers("alpha", ["hi"]);
  const answer = await client.generate(REQUEST);
  assert.equal(answer.choices[0]?.content, "hi");
  assert.deepEqual([answer.usage?.inputTokens, answer.usage?.outputTokens], [10, 5]);
  assert.deepEqual([answer.routing?.backend, answer.routing?.attempts, answer.routing?.costNanoUsd], ["alpha", 1, 20n]);
  const sent = JSON.parse(Buffer.from(ingress.adapters.attempts[0]!.open.body).toString()) as Record<string, unknown>;
  assert.deepEqual(sent, {
    verbosity: "low",
    model: "chat",
    messages: [{ role: "user", content: "hello" }],
    tools: [{ type: "function", function: { name: "f", description: "d", parameters: { type: "object" } } }],
    tool_choice: { type: "function", function: { name: "f" } },
    max_completion_tokens: 7,
    temperature: 0.5,
    user: "u",
  });
  const [decide] = ingress.policy.requests;
  assert.deepEqual([decide!.tags, decide!.requestClass], [{ team: "search" }, 4]);
});

test("generateStream gives deltas and one done with usage and routing", async () => {
  ingress.adapters.answers("alpha", ["a", "b", "c"]);
  let text = "";
  let done = 0;
  for await (const { event } of client.generateStream({ request: REQUEST })) {
    if (event.case === "delta") text += event.value.content;
    if (event.case === "done") {
      done++;
      assert.deepEqual([event.value.usage?.outputTokens, event.value.routing?.backend], [5, "alpha"]);
    }
  }
  assert.deepEqual([text, done], ["abc", 1]);
});

test("a large typed stream arrives whole although its queue is bounded", async () => {
  ingress.adapters.answers(
    "alpha",
    Array.from({ length: 3_000 }, (_, index) => `<${index}>`),
  );
  let text = "";
  for await (const { event } of client.generateStream({ request: REQUEST })) if (event.case === "delta") text += event.value.content;
  assert.equal(text, Array.from({ length: 3_000 }, (_, index) => `<${index}>`).join(""));
});

test("a caller that goes away cancels upstream", async () => {
  const gone = new AbortController();
  const call = client.generate(REQUEST, { signal: gone.signal });
  const attempt = await ingress.adapters.at(0);
  const cancelled = once(attempt.events, "cancel");
  gone.abort();
  await assert.rejects(call);
  await cancelled;
  assert.equal(attempt.cancelReason, "canceled");
});

test("the call's deadline becomes the request's", async () => {
  ingress.adapters.answers("alpha", ["x"]);
  await client.generate(REQUEST, { timeoutMs: 5_000 });
  const { deadlineMs } = ingress.policy.requests[0]!;
  assert.ok(deadlineMs > 0 && deadlineMs <= 5_000);
});

test("a stream that breaks and a bad request are errors, not ends", async () => {
  ingress.adapters.scripts.set("alpha", (attempt) => {
    attempt.delta("half");
    attempt.fail("UPSTREAM_UNAVAILABLE");
  });
  await assert.rejects(async () => {
    for await (const event of client.generateStream({ request: REQUEST })) assert.ok(event);
  });
  await assert.rejects(client.generate({ ...REQUEST, messages: [] }));
  await assert.rejects(client.generate({ ...REQUEST, extra: { model: "other" } }));
  await assert.rejects(client.generate({ ...REQUEST, priority: "urgent" }));
});
