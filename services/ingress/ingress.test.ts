import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { allow, candidate, chatBody, postChat, startIngress, type TestIngress } from "./testing.ts";

let ingress: TestIngress;
before(async () => {
  ingress = await startIngress();
});
after(() => ingress.stop());
beforeEach(() => {
  ingress.adapters.scripts.clear();
  ingress.adapters.attempts.length = 0;
  ingress.outbox.records.length = 0;
  ingress.policy.reports.length = 0;
  ingress.policy.requests.length = 0;
  ingress.log.lines.length = 0;
  ingress.tracing.emitted.length = 0;
});

test("a whole answer passes byte for byte, with routing headers and its cost", async () => {
  ingress.adapters.answers("alpha", ["hi"]);
  const response = await postChat(ingress, chatBody(), { headers: { "x-request-id": "my-id.1" } });
  assert.equal(response.status, 200);
  const answer = (await response.json()) as { choices: { message: { content: string } }[] };
  assert.equal(answer.choices[0]?.message.content, "hi");
  assert.equal(response.headers.get("x-request-id"), "my-id.1");
  assert.equal(response.headers.get("x-signalbox-backend"), "alpha");
  assert.equal(response.headers.get("x-signalbox-model"), "chat");
  assert.equal(response.headers.get("x-signalbox-attempts"), "1");
  assert.match(response.headers.get("x-signalbox-decision-id") ?? "", /^[0-9a-f-]{36}$/);
  assert.match(response.headers.get("server-timing") ?? "", /^queue;dur=\d+\.\d, route;dur=\d+\.\d, upstream;dur=\d+\.\d$/);
  // 10 input tokens at 1 nano-USD, 5 output tokens at 2.
  assert.equal(response.headers.get("x-signalbox-cost-usd"), "0.00000002");
  assert.deepEqual(ingress.outbox.lines(), ["INTENT alpha", "POST alpha"]);
  assert.deepEqual(ingress.policy.kinds(), ["started", "firstToken", "ended", "requestDone"]);
});

test("a stream passes in order and ends with usage, cost and [DONE]", async () => {
  ingress.adapters.answers("alpha", ["a", "b", "c"]);
  const response = await postChat(ingress, chatBody({ stream: true, stream_options: { include_usage: true } }));
  assert.equal(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
  const events = (await response.text()).split("\n\n").filter((event) => event !== "");
  assert.equal(events.at(-1), "data: [DONE]");
  const usage = JSON.parse(events.at(-2)!.slice(6)) as { usage: { total_tokens: number }; signalbox: { cost_usd: string } };
  assert.equal(usage.usage.total_tokens, 15);
  assert.equal(usage.signalbox.cost_usd, "0.00000002");
  const text = events
    .slice(0, -2)
    .map((event) => (JSON.parse(event.slice(6)) as { choices: { delta: { content: string } }[] }).choices[0]!.delta.content);
  assert.deepEqual(text, ["", "a", "b", "c"]);
});

test("usage is not sent to a stream that did not ask for it", async () => {
  ingress.adapters.answers("alpha", ["a"]);
  const response = await postChat(ingress, chatBody({ stream: true }));
  const text = await response.text();
  assert.equal(text.includes("cost_usd"), false);
  assert.ok(text.endsWith("data: [DONE]\n\n"));
});

test("the decision request holds features and no content", async () => {
  ingress.adapters.answers("alpha", ["hi"]);
  const body = chatBody({
    messages: [
      { role: "system", content: "be brief" },
      {
        role: "user",
        content: [
          { type: "text", text: "canary-prompt" },
          { type: "image_url", image_url: { url: "https://example.org/a.png" } },
        ],
      },
    ],
    tools: [{ type: "function", function: { name: "f", parameters: {} } }],
    max_tokens: 50,
    service_tier: "flex",
    user: "user-1",
    metadata: { feature: "chat" },
  });
  await (
    await postChat(ingress, body, {
      headers: { "x-signalbox-tags": "team=search", "x-signalbox-deadline-ms": "9000", "x-signalbox-max-cost-usd": "0.5" },
    })
  ).text();
  const [request] = ingress.policy.requests;
  assert.ok(request);
  assert.equal(request.needs, 0b11);
  assert.deepEqual(request.tags, { team: "search", feature: "chat" });
  assert.equal(request.maxOutputTokens, 50);
  assert.equal(request.requestClass, 4);
  assert.equal(request.deadlineMs, 9000);
  assert.equal(request.maxCostNanoUsd, 500_000_000n);
  assert.match(request.unit, /^[0-9a-f]{32}$/);
  assert.ok(request.inputTokens > 765);
  const text = JSON.stringify(request, (_key, value: unknown) => (typeof value === "bigint" ? value.toString() : value));
  assert.equal(text.includes("canary"), false);
  assert.equal(text.includes("user-1"), false);
});

test("one info line per request has its attempts inside and no content", async () => {
  ingress.adapters.answers("alpha", ["canary-completion"]);
  await (await postChat(ingress, chatBody({ messages: [{ role: "user", content: "canary-prompt" }] }))).text();
  const lines = ingress.log.lines.filter((line) => line.message === "request");
  assert.equal(lines.length, 1);
  const [attempt] = lines[0]!.fields["attempts"] as { backend: string; outcome: string }[];
  assert.equal(attempt?.backend, "alpha");
  assert.equal(attempt?.outcome, "ok");
  assert.equal(JSON.stringify(lines).includes("canary"), false);
});

test("a sampled request gives a root span, one decide span and one client span per attempt", async () => {
  ingress.policy.answer = () =>
    allow([candidate("alpha", { score: 12, predictedTtftMs: 30 })], {
      excluded: [candidate("beta", { excluded: { $typeName: "signalbox.policy.v1.Exclusion", requirement: "vision", detail: "no eyes" } })],
    });
  ingress.adapters.answers("alpha", ["hi"]);
  const traceparent = "00-0123456789abcdef0123456789abcdef-00000000000000aa-01";
  await (await postChat(ingress, chatBody(), { headers: { traceparent } })).text();
  const [trace] = ingress.tracing.emitted;
  assert.ok(trace);
  const [root, decide, attempt] = trace.spans;
  assert.deepEqual(
    trace.spans.map((span) => [span.name, span.kind]),
    [
      ["POST /v1/chat/completions", "server"],
      ["signalbox.decide", "internal"],
      ["chat alpha-model", "client"],
    ],
  );
  assert.equal(trace.context.traceId, "0123456789abcdef0123456789abcdef");
  assert.equal(root!.parentSpanId, "00000000000000aa");
  assert.equal(decide!.parentSpanId, root!.spanId);
  assert.equal(attempt!.parentSpanId, root!.spanId);
  assert.deepEqual(
    decide!.events.map((event) => [
      event.attributes["signalbox.backend"],
      event.attributes["signalbox.candidate.score"],
      event.attributes["signalbox.candidate.excluded"],
    ]),
    [
      ["alpha", 12, undefined],
      ["beta", 0, "vision"],
    ],
  );
  assert.equal(attempt!.attributes["gen_ai.usage.input_tokens"], 10);
  assert.equal(attempt!.attributes["gen_ai.provider.name"], "openai");
  assert.ok(ingress.adapters.attempts[0]!.open.traceparent.includes(attempt!.spanId));
});

test("models are listed and found by name, also with slashes", async () => {
  const list = (await (await fetch(`${ingress.url}/v1/models`)).json()) as {
    object: string;
    data: { id: string; object: string; owned_by: string }[];
  };
  assert.deepEqual(
    list.data.map((model) => model.id),
    ["chat", "gpt-4o-mini", "openai/alpha-model", "anthropic/beta-model"],
  );
  for (const path of ["openai/alpha-model", "openai%2Falpha-model"]) {
    const model = (await (await fetch(`${ingress.url}/v1/models/${path}`)).json()) as { id: string; object: string };
    assert.deepEqual([model.id, model.object], ["openai/alpha-model", "model"]);
  }
  const missing = await fetch(`${ingress.url}/v1/models/nope`);
  assert.equal(missing.status, 404);
  assert.equal(((await missing.json()) as { error: { code: string } }).error.code, "model_not_found");
});
