import assert from "node:assert/strict";
import { once } from "node:events";
import { request as httpRequest } from "node:http";
import { connect, type Socket } from "node:net";
import { after, before, beforeEach, test } from "node:test";
import { FakeClock } from "#libs/clock/fake.ts";
import { ATTEMPT_WINDOW_BYTES } from "#libs/peers/index.ts";
import { METRIC } from "#libs/telemetry/semconv.ts";
import { LAG_SHED_MIN_REQUESTS } from "./limits.ts";
import {
  allow,
  answerBody,
  candidate,
  chatBody,
  deny,
  FakePolicy,
  postChat,
  startIngress,
  testConfig,
  type TestIngress,
} from "./testing.ts";

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
  ingress.policy.cancelled.length = 0;
  ingress.policy.answer = new FakePolicy().answer;
});

/** A raw client: sends one request and leaves the rest to the test. */
function rawPost(port: number, body: unknown): Socket {
  const text = JSON.stringify(body);
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => {});
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
  );
  return socket;
}

for (const stream of [false, true]) {
  for (const leave of ["FIN", "RST"] as const) {
    test(`a client that leaves by ${leave} cancels upstream at once (${stream ? "after content" : "whole answer"})`, async () => {
      const socket = rawPost(ingress.port, chatBody({ stream }));
      const attempt = await ingress.adapters.at(0);
      if (stream) {
        attempt.delta("some");
        await once(socket, "data");
      }
      const cancelled = once(attempt.events, "cancel");
      const done = once(ingress.policy.events, "done");
      if (leave === "RST") socket.resetAndDestroy();
      else socket.destroy();
      await cancelled;
      assert.equal(attempt.cancelReason, "canceled");
      await done;
      assert.deepEqual(
        ingress.outbox.records.map((record) => [record.kind, record.purpose]),
        [
          [1, ""],
          [2, "waste_aborted"],
        ],
      );
      assert.equal(ingress.outbox.records[1]!.estimated, true);
    });
  }
}

test("a client that leaves before the first byte cancels upstream", async () => {
  const socket = rawPost(ingress.port, chatBody({ stream: true }));
  const attempt = await ingress.adapters.at(0);
  const cancelled = once(attempt.events, "cancel");
  socket.destroy();
  await cancelled;
});

test("a client that leaves while queued withdraws its request and nothing is dispatched", async () => {
  let decide: (decision: ReturnType<typeof allow>) => void = () => {};
  ingress.policy.answer = () => new Promise((resolve) => (decide = resolve));
  const asked = once(ingress.policy.events, "decide");
  const socket = rawPost(ingress.port, chatBody());
  await asked;
  const done = once(ingress.policy.events, "done");
  socket.destroy();
  await done;
  assert.equal(ingress.policy.cancelled.length, 1);
  decide(allow([candidate("alpha")]));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(ingress.adapters.attempts.length, 0);
  assert.equal(ingress.outbox.records.length, 0);
});

test("a slow reader holds the upstream back within the window, and every byte still arrives", async () => {
  const reader = httpRequest({
    port: ingress.port,
    host: "127.0.0.1",
    method: "POST",
    path: "/v1/chat/completions",
    headers: { "content-type": "application/json" },
  });
  reader.end(JSON.stringify(chatBody({ stream: true })));
  const attempt = await ingress.adapters.at(0);
  const event = `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: "x".repeat(32_000) } }] })}\n\n`;
  const responded = once(reader, "response");
  const total = 40 * 1024 * 1024;
  let sent = 0;
  /** Plays an adapter: sends as long as the window is open. */
  const fill = (): void => {
    while (sent < total && sent - attempt.consumedBytes + event.length <= ATTEMPT_WINDOW_BYTES) {
      sent += event.length;
      attempt.data(event);
    }
    if (sent >= total) attempt.ok();
  };
  attempt.events.on("credit", () => setImmediate(fill));
  fill();
  const [response] = (await responded) as [NodeJS.ReadableStream];
  response.pause();
  await settled(() => sent);
  assert.ok(sent < total, "the upstream was not held back");
  assert.ok(sent - attempt.consumedBytes <= ATTEMPT_WINDOW_BYTES);
  let received = 0;
  let tail = "";
  for await (const piece of response) {
    received += piece.length;
    tail = (tail + piece.toString()).slice(-20);
  }
  assert.ok(tail.endsWith("data: [DONE]\n\n"));
  assert.equal(received, sent + "data: [DONE]\n\n".length);
});

/** Resolves when the value has stopped changing for many turns of the event loop. */
async function settled(value: () => number): Promise<void> {
  for (let same = 0, last = -1; same < 2_000; same++) {
    await new Promise((resolve) => setImmediate(resolve));
    if (value() !== last) same = 0;
    last = value();
  }
}

test("silence is filled with comments after 15 s, and failover still works behind them", async () => {
  const clock = new FakeClock();
  const silent = await startIngress({ clock });
  try {
    silent.policy.answer = () => allow([candidate("alpha"), candidate("beta")]);
    silent.adapters.answers("beta", ["late"]);
    const pending = postChat(silent, chatBody({ stream: true }));
    const attempt = await silent.adapters.at(0);
    attempt.role();
    clock.advance(16_000);
    const response = await pending;
    assert.equal(response.status, 200);
    attempt.fail("UPSTREAM_UNAVAILABLE");
    const text = await response.text();
    assert.ok(text.startsWith(": keep-alive\n\n"));
    assert.ok(text.includes("late"));
    assert.ok(text.endsWith("data: [DONE]\n\n"));
    assert.equal(text.match(/"role"/g)?.length, 1);
  } finally {
    await silent.stop();
  }
});

test("a reader that takes nothing for a minute is dropped and billed up to the cut", async () => {
  const clock = new FakeClock();
  const slow = await startIngress({ clock });
  try {
    const socket = rawPost(slow.port, chatBody({ stream: true }));
    const attempt = await slow.adapters.at(0);
    socket.pause();
    const event = `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: "x".repeat(64_000) } }] })}\n\n`;
    let sent = 0;
    for (let turns = 0; turns < 200; turns++) {
      while (sent - attempt.consumedBytes + event.length <= ATTEMPT_WINDOW_BYTES) {
        sent += event.length;
        attempt.data(event);
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    const done = once(slow.policy.events, "done");
    clock.advance(59_000);
    assert.equal(attempt.cancelReason, undefined);
    clock.advance(3_000);
    await done;
    assert.equal(attempt.cancelReason, "canceled");
    const [, posted] = slow.outbox.records;
    assert.equal(posted?.purpose, "waste_aborted");
    assert.ok((posted?.usage?.outputTokens ?? 0) > 0);
    socket.destroy();
  } finally {
    await slow.stop();
  }
});

test("a drain lets a running stream finish and closes the connection after it", async () => {
  const leaving = await startIngress({ config: testConfig() });
  const pending = postChat(leaving, chatBody({ stream: true }));
  const attempt = await leaving.adapters.at(0);
  attempt.delta("a");
  const response = await pending;
  const drained = leaving.host.module.drain(5_000);
  assert.equal(leaving.host.module.checks[0]!.status().state, "failed");
  attempt.delta("b");
  attempt.ok();
  assert.ok((await response.text()).endsWith("data: [DONE]\n\n"));
  await drained;
  await leaving.stop();
});

test("fault: a finished answer that nobody reads held its connection for ever", async () => {
  const base = testConfig();
  const api = { ...base.server.api, readerTimeoutMs: 50 };
  const strict = await startIngress({ config: { ...base, server: { ...base.server, api } } });
  try {
    const socket = rawPost(strict.port, chatBody());
    const attempt = await strict.adapters.at(0);
    const done = once(strict.policy.events, "done");
    // More than the system takes on its own: the rest waits for a reader that never comes.
    attempt.data(answerBody("x".repeat(32 * 1024 * 1024)));
    attempt.ok();
    await done;
    // The response is over when the request's body is given back.
    const held = (): boolean => new RegExp(`^${METRIC.bodyBytes} [1-9]`, "m").test(strict.metrics.render());
    assert.ok(held());
    while (held()) await new Promise((resolve) => setTimeout(resolve, 5));
    let received = 0;
    socket.on("data", (bytes) => (received += bytes.length));
    await once(socket, "close");
    assert.ok(received < 32 * 1024 * 1024, `${received} bytes`);
    assert.equal(strict.outbox.lines().at(-1), "POST alpha");
  } finally {
    await strict.stop();
  }
});

test("when the grace is over streams end with server_shutting_down and are settled", async () => {
  const leaving = await startIngress();
  const streaming = postChat(leaving, chatBody({ stream: true }));
  const attempt = await leaving.adapters.at(0);
  attempt.delta("a");
  const response = await streaming;
  const waiting = postChat(leaving, chatBody());
  await leaving.adapters.at(1);
  await leaving.host.module.drain(100);
  const text = await response.text();
  assert.ok(text.includes("server_shutting_down"));
  assert.equal(text.includes("[DONE]"), false);
  const refused = await waiting;
  assert.equal(refused.status, 503);
  assert.equal(refused.headers.get("connection"), "close");
  assert.deepEqual(leaving.outbox.lines(), ["INTENT alpha", "INTENT alpha", "POST alpha", "POST alpha"]);
  await leaving.stop();
});

test("fifty requests with one idempotency key make one call upstream and get one answer", async () => {
  const headers = { "idempotency-key": "once" };
  const pending = Array.from({ length: 50 }, () => postChat(ingress, chatBody(), { headers }));
  const attempt = await ingress.adapters.at(0);
  await new Promise((resolve) => setTimeout(resolve, 0));
  attempt.data(answerBody("only once"));
  attempt.ok();
  for (const response of await Promise.all(pending)) assert.ok((await response.text()).includes("only once"));
  const later = await postChat(ingress, chatBody(), { headers });
  assert.ok((await later.text()).includes("only once"));
  assert.equal(ingress.adapters.attempts.length, 1);
  const other = await postChat(ingress, chatBody({ n: 1 }), { headers });
  assert.equal(other.status, 400);
  assert.equal(((await other.json()) as { error: { code: string } }).error.code, "idempotency_mismatch");
});

test("a stream is replayed whole to the same idempotency key, and a failure is forgotten", async () => {
  const headers = { "idempotency-key": "stream" };
  ingress.adapters.fails("alpha", "UPSTREAM_REJECTED", { message: "no", httpStatus: 400 });
  assert.equal((await postChat(ingress, chatBody({ stream: true }), { headers })).status, 400);
  ingress.adapters.answers("alpha", ["a", "b"]);
  const first = await (await postChat(ingress, chatBody({ stream: true }), { headers })).text();
  const second = await (await postChat(ingress, chatBody({ stream: true }), { headers })).text();
  assert.equal(first, second);
  assert.ok(first.endsWith("[DONE]\n\n"));
});

test("one forged x-request-id never merges attempts", async () => {
  ingress.adapters.answers("alpha", ["x"]);
  for (let round = 0; round < 20; round++) await (await postChat(ingress, chatBody(), { headers: { "x-request-id": "forged" } })).text();
  assert.equal(new Set(ingress.outbox.records.map((record) => record.attemptId)).size, 20);
});

test("while the event loop is late new requests are refused at once, batch ones first, and what runs goes on", async () => {
  const loopLag = { lagMs: 0 };
  const late = await startIngress({ loopLag });
  try {
    const running = postChat(late, chatBody({ stream: true }));
    const attempt = await late.adapters.at(0);
    attempt.delta("a");
    const response = await running;
    const batch = { headers: { "x-signalbox-priority": "batch" } };
    loopLag.lagMs = 400;
    late.adapters.answers("beta", ["x"]);
    late.policy.answer = () => allow([candidate("beta")]);
    assert.equal((await postChat(late, chatBody())).status, 200, "few requests are not what makes the loop late");
    late.policy.answer = () => allow([candidate("alpha")]);
    loopLag.lagMs = 0;
    const others = Array.from({ length: LAG_SHED_MIN_REQUESTS - 1 }, () => postChat(late, chatBody()));
    await late.adapters.at(LAG_SHED_MIN_REQUESTS);
    loopLag.lagMs = 150;
    assert.equal((await postChat(late, chatBody(), batch)).status, 429);
    loopLag.lagMs = 400;
    const refused = await postChat(late, chatBody());
    assert.deepEqual([refused.status, refused.headers.get("retry-after")], [429, "1"]);
    assert.equal(((await refused.json()) as { error: { code: string } }).error.code, "queue_full");
    attempt.ok();
    assert.ok((await response.text()).endsWith("data: [DONE]\n\n"));
    for (const other of late.adapters.attempts) other.ok();
    await Promise.all(others);
    loopLag.lagMs = 0;
    late.adapters.answers("alpha", ["b"]);
    assert.equal((await postChat(late, chatBody(), batch)).status, 200);
  } finally {
    await late.stop();
  }
});

test("a stream that waits for its decision hears comments, and a denial then is an event", async () => {
  const clock = new FakeClock();
  const waiting = await startIngress({ clock });
  try {
    let decide: (decision: ReturnType<typeof allow>) => void = () => {};
    waiting.policy.answer = () => new Promise((resolve) => (decide = resolve));
    const asked = once(waiting.policy.events, "decide");
    const pending = postChat(waiting, chatBody({ stream: true }));
    await asked;
    clock.advance(16_000);
    const response = await pending;
    assert.deepEqual([response.status, response.headers.get("x-signalbox-backend")], [200, null]);
    decide(deny("QUEUE_FULL", "waited too long"));
    const text = await response.text();
    assert.ok(text.startsWith(": keep-alive\n\n"), text);
    assert.ok(text.includes("queue_full") && !text.includes("[DONE]"), text);
  } finally {
    await waiting.stop();
  }
});
