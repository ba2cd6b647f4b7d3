import assert from "node:assert/strict";
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { after, before, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { fromBinary } from "@bufbuild/protobuf";
import { AttemptsCompletedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { SUBJECTS } from "#libs/bus/index.ts";
import { Secret } from "#libs/config/secret.ts";
import { ATTEMPT_WINDOW_BYTES } from "#libs/peers/index.ts";
import {
  answerJson,
  backendOf,
  createRig,
  type Provider,
  Recorder,
  type Rig,
  startProvider,
  WHOLE_BODY,
  WHOLE_STREAM,
  writeEvents,
} from "./module.testkit.ts";
import { chunkOf } from "./openai/testkit.ts";

let provider: Provider;
let rig: Rig;

before(async () => {
  provider = await startProvider(() => {});
  rig = createRig([
    backendOf({ url: provider.url, key: Secret.of("sk-test") }),
    backendOf({ name: "narrow", url: provider.url, concurrency: { mode: "fixed", min: 1, max: 1 } }),
    backendOf({ name: "nowhere", url: "http://127.0.0.1:1/v1" }),
    backendOf({ name: "keyless", url: provider.url, key: new Secret("env:GONE", () => assert.fail("cannot be resolved")) }),
  ]);
  await rig.host.module.start();
});

after(async () => {
  await rig.host.module.drain(1_000);
  await rig.host.module.stop();
  await provider.close();
});

test("a stream comes through in order, with usage at the end and never [DONE]", async () => {
  provider.answer = (_, response) => {
    writeEvents(response, WHOLE_STREAM);
    response.end();
  };
  const recorder = rig.attempt({ traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" });
  const end = await recorder.ended;
  assert.equal(end.outcome, Outcome.OK);
  assert.deepEqual([end.usageKnown, end.usage?.inputTokens, end.usage?.outputTokens, end.finishReason], [true, 5, 1, "stop"]);
  assert.ok(recorder.text.includes('"Hi"') && !recorder.text.includes("[DONE]") && !recorder.text.includes('"usage":{'));
  assert.match(Buffer.from(end.usageEvent).toString(), /^data: \{.*"choices":\[\],"usage":\{.*\}\}\n\n$/);
  assert.deepEqual([end.contentSeen, end.dispatched, end.contentEvents], [true, true, 1]);
  const { path, headers, body } = provider.requests.at(-1)!;
  assert.equal(path, "/v1/chat/completions");
  assert.equal(headers.authorization, "Bearer sk-test");
  assert.equal(headers["x-client-request-id"], "0197-attempt");
  assert.equal(headers.traceparent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  assert.equal(headers.via, "1.1 signalbox");
  assert.deepEqual(JSON.parse(body), { model: "upstream-model", messages: [], stream_options: { include_usage: true } });
});

test("a whole answer comes through as it is", async () => {
  provider.answer = (_, response) => answerJson(response, WHOLE_BODY, 200, { "x-ratelimit-remaining-requests": "7" });
  const recorder = rig.attempt({ stream: false });
  const end = await recorder.ended;
  assert.equal(end.outcome, Outcome.OK);
  assert.equal(recorder.text, JSON.stringify(WHOLE_BODY));
  assert.deepEqual(
    [end.upstreamModel, end.responseId, end.rateLimit?.remainingRequests, end.usage?.outputTokens],
    ["m-2026", "chatcmpl-9", 7, 1],
  );
});

test("a whole answer beyond the window comes in pieces as it is consumed", async () => {
  const large = {
    ...WHOLE_BODY,
    choices: [{ index: 0, message: { role: "assistant", content: "x".repeat(3 * ATTEMPT_WINDOW_BYTES) }, finish_reason: "stop" }],
  };
  provider.answer = (_, response) => answerJson(response, large);
  const recorder = new Recorder();
  recorder.greedy = false;
  rig.attempt({ stream: false }, recorder);
  await recorder.delivered(1);
  assert.equal(recorder.bytes, ATTEMPT_WINDOW_BYTES);
  assert.equal(recorder.ends, 0);
  recorder.greedy = true;
  recorder.handle!.consumed(ATTEMPT_WINDOW_BYTES);
  assert.equal((await recorder.ended).outcome, Outcome.OK);
  assert.deepEqual(JSON.parse(recorder.text), large);
});

test("a stream cut before and after content is an explicit failure", async () => {
  for (const [events, content] of [
    [WHOLE_STREAM.slice(0, 1), false],
    [WHOLE_STREAM.slice(0, 2), true],
  ] as const) {
    provider.answer = (_, response) => {
      writeEvents(response, events);
      response.end();
    };
    const end = await rig.attempt().ended;
    assert.deepEqual([end.outcome, end.error?.reason, end.contentSeen], [Outcome.FAILED, "UPSTREAM_PROTOCOL", content]);
    assert.equal(end.usageKnown, false);
    assert.equal(end.usage?.outputTokens, content ? 1 : 0);
  }
});

test("a connection that breaks is UPSTREAM_UNAVAILABLE", async () => {
  provider.answer = (request, response) => {
    writeEvents(response, WHOLE_STREAM.slice(0, 2));
    process.nextTick(() => request.socket.resetAndDestroy());
  };
  const end = await rig.attempt().ended;
  assert.deepEqual([end.error?.reason, end.error?.untouched], ["UPSTREAM_UNAVAILABLE", false]);
});

test("a kept-alive connection that dies without a byte leaves the request untouched; a fresh one does not", async () => {
  const close = (request: { socket: { destroy(): void } }): void => request.socket.destroy();
  provider.server.closeIdleConnections();
  provider.answer = close;
  await rig.attempt({ backend: "narrow" }).ended;
  provider.answer = (_, response) => answerJson(response, WHOLE_BODY);
  await rig.attempt({ backend: "narrow", stream: false }).ended;
  // The client library frees the connection after the callbacks of its response.
  await setImmediate();
  provider.answer = close;
  const reused = await rig.attempt({ backend: "narrow" }).ended;
  assert.deepEqual([reused.error?.reason, reused.error?.untouched], ["UPSTREAM_UNAVAILABLE", true]);
  const fresh = await rig.attempt({ backend: "narrow" }).ended;
  assert.deepEqual([fresh.error?.reason, fresh.error?.untouched], ["UPSTREAM_UNAVAILABLE", false]);
});

test("a provider that refuses connections leaves the request untouched and nothing dispatched", async () => {
  const end = await rig.attempt({ backend: "nowhere" }).ended;
  assert.deepEqual([end.error?.reason, end.error?.untouched, end.dispatched], ["UPSTREAM_UNAVAILABLE", true, false]);
});

test("silence ends at the first-token ceiling, at the idle ceiling and at the deadline", async () => {
  provider.answer = () => {};
  const asked = async (): Promise<void> => void (await once(provider.server, "request"));
  const first = rig.attempt({ firstTokenTimeoutMs: 1_000 });
  await asked();
  rig.clock.advance(1_100);
  assert.deepEqual([(await first.ended).error?.reason, (await first.ended).outcome], ["UPSTREAM_TIMEOUT", Outcome.FAILED]);
  const deadline = rig.attempt({ deadlineMs: 500 });
  await asked();
  rig.clock.advance(600);
  assert.equal((await deadline.ended).outcome, Outcome.DEADLINE);
  provider.answer = (_, response) => writeEvents(response, WHOLE_STREAM.slice(0, 2));
  const idle = rig.attempt({ firstTokenTimeoutMs: 1_000, idleTimeoutMs: 2_000 });
  await idle.delivered(200);
  rig.clock.advance(1_900);
  assert.equal(idle.ends, 0, "content came, so the first-token ceiling is behind");
  rig.clock.advance(300);
  const end = await idle.ended;
  assert.deepEqual([end.error?.reason, end.contentSeen], ["UPSTREAM_TIMEOUT", true]);
});

test("a second in which this process stood still is not the provider's", async () => {
  provider.answer = (_, response) => answerJson(response, WHOLE_BODY);
  const recorder = rig.attempt({ stream: false, connectTimeoutMs: 1_000, firstTokenTimeoutMs: 1_000 });
  rig.clock.stall(1_500);
  rig.clock.advance(0);
  assert.equal(recorder.ends, 0, "the connection stands, it was only not looked at");
  assert.equal((await recorder.ended).outcome, Outcome.OK);
});

test("the caller's deadline counts whoever stood still", async () => {
  provider.answer = () => {};
  const recorder = rig.attempt({ deadlineMs: 1_000 });
  rig.clock.stall(1_500);
  rig.clock.advance(0);
  assert.equal((await recorder.ended).outcome, Outcome.DEADLINE);
});

test("an answer that drips in without ever making a line or a body is as good as silence", async () => {
  const drip = async (stream: boolean): Promise<string | undefined> => {
    let write: (() => void) | undefined;
    const answering = new Promise<void>((resolve) => {
      provider.answer = (_, response) => {
        if (stream) writeEvents(response, WHOLE_STREAM.slice(0, 2));
        else response.writeHead(200, { "content-type": "application/json" });
        write = () => void response.write("x");
        write();
        resolve();
      };
    });
    const recorder = rig.attempt({ stream, firstTokenTimeoutMs: 5_000, idleTimeoutMs: 3_000 });
    await answering;
    while (recorder.ends === 0) {
      write!();
      rig.clock.advance(500);
      await setImmediate();
    }
    return (await recorder.ended).error?.reason;
  };
  assert.equal(await drip(true), "UPSTREAM_TIMEOUT");
  assert.equal(await drip(false), "UPSTREAM_TIMEOUT");
});

test("the query of a backend's url goes along", async () => {
  const own = createRig([backendOf({ url: `${provider.url}?api-version=2026-01-01` })]);
  provider.answer = (_, response) => answerJson(response, WHOLE_BODY);
  await own.attempt({ stream: false }).ended;
  assert.equal(provider.requests.at(-1)!.path, "/v1/chat/completions?api-version=2026-01-01");
  await own.host.module.stop();
});

test("a slow reader pauses its upstream socket and nobody else's", async () => {
  let stalled: ServerResponse | undefined;
  let written = 0;
  const piece = `data: ${JSON.stringify(chunkOf({ content: "x".repeat(16_000) }))}\n\n`;
  provider.answer = (_, response) => {
    stalled = response;
    response.writeHead(200, { "content-type": "text/event-stream" });
    const fill = (): void => {
      while (response.write(piece)) written += piece.length;
      response.once("drain", fill);
    };
    fill();
  };
  const slow = new Recorder();
  slow.greedy = false;
  rig.attempt({}, slow);
  await slow.delivered(ATTEMPT_WINDOW_BYTES);
  provider.answer = (_, response) => answerJson(response, WHOLE_BODY);
  assert.equal((await rig.attempt({ stream: false }).ended).outcome, Outcome.OK);
  assert.ok(slow.bytes < ATTEMPT_WINDOW_BYTES + 128 * 1024, `${slow.bytes} bytes came`);
  assert.ok(stalled!.writableNeedDrain, "the provider's socket is full");
  const before = slow.bytes;
  slow.handle!.consumed(slow.bytes);
  await slow.delivered(before + 1);
  slow.handle!.cancel("canceled");
  assert.equal((await slow.ended).outcome, Outcome.CANCELED);
  await once(stalled!, "close");
  assert.ok(written > 0);
});

test("cancelling closes the upstream connection and ends with what is known", async () => {
  let closed: Promise<unknown> | undefined;
  provider.answer = (request, response) => {
    closed = once(request.socket, "close");
    writeEvents(response, WHOLE_STREAM.slice(0, 2));
  };
  const recorder = rig.attempt();
  await recorder.delivered(200);
  recorder.handle!.cancel("hedge_lost");
  assert.equal(recorder.ends, 0, "the end comes after cancel() returned");
  const end = await recorder.ended;
  assert.deepEqual([end.outcome, end.contentEvents, end.usage?.outputTokens], [Outcome.HEDGE_LOST, 1, 1]);
  await closed;
  recorder.handle!.cancel("canceled");
  assert.equal(recorder.ends, 1);
});

test("what is cancelled before it is sent never leaves", async () => {
  const before = provider.requests.length;
  const recorder = rig.attempt();
  recorder.handle!.cancel("canceled");
  const end = await recorder.ended;
  assert.deepEqual([end.outcome, end.dispatched], [Outcome.CANCELED, false]);
  provider.answer = (_, response) => answerJson(response, WHOLE_BODY);
  await rig.attempt({ stream: false }).ended;
  assert.equal(provider.requests.length, before + 1);
});

test("a header that HTTP forbids fails the attempt and nothing else", async () => {
  const end = await rig.attempt({ traceparent: "a\r\nx: y" }).ended;
  assert.deepEqual([end.outcome, end.dispatched], [Outcome.FAILED, false]);
});

test("a provider that goes on after [DONE] is cut off a second later", async () => {
  let closed: Promise<unknown> | undefined;
  provider.answer = (request, response) => {
    closed = once(request.socket, "close");
    writeEvents(response, WHOLE_STREAM);
  };
  assert.equal((await rig.attempt().ended).outcome, Outcome.OK);
  rig.clock.advance(1_100);
  await closed;
});

test("429 carries its wait and is no failure of the backend", async () => {
  provider.answer = (_, response) =>
    answerJson(response, { error: { message: "slow down", type: "requests", code: "rate_limit_exceeded" } }, 429, { "retry-after": "7" });
  const end = await rig.attempt().ended;
  assert.deepEqual([end.error?.reason, end.error?.retryAfterMs, end.error?.httpStatus], ["UPSTREAM_RATE_LIMITED", 7_000, 429]);
});

test("web pages, compressed answers, broken JSON and a body where a stream was asked for are malformed", async () => {
  const answers: readonly ((response: ServerResponse) => void)[] = [
    (response) => response.writeHead(200, { "content-type": "text/html" }).end("<html>"),
    (response) => response.writeHead(200, { "content-type": "application/json", "content-encoding": "gzip" }).end("x"),
    (response) => response.writeHead(200, { "content-type": "text/event-stream" }).end("data: {nope}\n\n"),
    (response) => answerJson(response, WHOLE_BODY),
  ];
  for (const answer of answers) {
    provider.answer = (_, response) => answer(response);
    assert.equal((await rig.attempt().ended).error?.reason, "UPSTREAM_PROTOCOL");
  }
  for (const body of ["", "{", "[]", '{"choices":[]}']) {
    provider.answer = (_, response) => response.writeHead(200, { "content-type": "application/json" }).end(body);
    assert.equal((await rig.attempt({ stream: false }).ended).error?.reason, "UPSTREAM_PROTOCOL", body);
  }
});

test("headers without end and a body beyond the bound are refused", async () => {
  provider.answer = (request) => request.socket.write(`HTTP/1.1 200 OK\r\n${`x: ${"y".repeat(1000)}\r\n`.repeat(200)}`);
  assert.equal((await rig.attempt().ended).error?.reason, "UPSTREAM_PROTOCOL");
  provider.answer = (_, response) =>
    response.writeHead(200, { "content-type": "application/json", "content-length": String(1 << 30) }).write("{");
  assert.equal((await rig.attempt({ stream: false }).ended).error?.reason, "UPSTREAM_PROTOCOL");
});

test("redirects are not followed", async () => {
  provider.answer = (_, response) => response.writeHead(307, { location: "http://127.0.0.1:1/" }).end();
  const before = provider.requests.length;
  assert.equal((await rig.attempt().ended).error?.reason, "UPSTREAM_UNAVAILABLE");
  assert.equal(provider.requests.length, before + 1);
});

test("what does not fit the backend's bound is BUSY, touches nothing and is not published", async () => {
  provider.answer = () => {};
  await rig.clock.advanceAsync(10);
  const published: string[] = [];
  const subscription = rig.bus.subscribe(SUBJECTS.attemptCompleted, (message) => {
    for (const { attemptId } of fromBinary(AttemptsCompletedSchema, message.payload).attempts) published.push(attemptId);
  });
  const running = rig.attempt({ backend: "narrow", attemptId: "running" });
  const busy = await rig.attempt({ backend: "narrow", attemptId: "busy" }).ended;
  assert.deepEqual([busy.error?.busy, busy.dispatched, busy.error?.untouched], [true, false, true]);
  running.handle!.cancel("canceled");
  await running.ended;
  await rig.clock.advanceAsync(10);
  assert.deepEqual(published, ["running"]);
  subscription.close();
});

test("an unknown backend and a bad body fail without a throw, after attempt() returned", async () => {
  assert.equal((await rig.attempt({ backend: "unheard-of" }).ended).error?.busy, true);
  const malformed = await rig.attempt({ body: Buffer.from("[1]") }).ended;
  assert.deepEqual([malformed.error?.reason, malformed.dispatched], ["REQUEST_MALFORMED", false]);
});

test("a credential that cannot be read fails its backend's attempts and says nothing of it", async () => {
  const end = await rig.attempt({ backend: "keyless" }).ended;
  assert.deepEqual([end.error?.reason, end.dispatched], ["INTERNAL", false]);
});
