import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, beforeEach, test } from "node:test";
import { SignalboxError } from "#libs/errors/index.ts";
import type { Reply, ReplyFacts } from "./reply.ts";
import { FLIGHT_BUFFER_MAX_BYTES } from "./limits.ts";
import { Flight } from "./single-flight.ts";
import { answerBody, chatBody, postChat, startIngress, testConfig, type TestIngress } from "./testing.ts";

let ingress: TestIngress;

before(async () => {
  const config = testConfig();
  const chat = config.models.get("chat")!;
  ingress = await startIngress({
    config: testConfig({
      models: new Map([
        ["chat", { ...chat, singleFlight: true }],
        ["alone", { ...chat, name: "alone", aliases: [] }],
      ]),
    }),
  });
});
after(() => ingress.stop());
beforeEach(() => {
  ingress.adapters.scripts.clear();
  ingress.adapters.attempts.length = 0;
  ingress.outbox.records.length = 0;
});

const SAME = { temperature: 0 };

/** Resolves once this many responses have their headers or the turn of the event loop has settled. */
async function turns(): Promise<void> {
  for (let count = 0; count < 200; count++) await new Promise((resolve) => setImmediate(resolve));
}

test("identical deterministic requests make one call: the leader is booked, followers are told a cost of 0", async () => {
  const pending = Array.from({ length: 20 }, (_, index) => postChat(ingress, chatBody(SAME), { headers: { "x-request-id": `r${index}` } }));
  const attempt = await ingress.adapters.at(0);
  await turns();
  attempt.data(answerBody("once"));
  attempt.ok();
  const responses = await Promise.all(pending);
  for (const response of responses) assert.ok((await response.text()).includes("once"));
  assert.equal(ingress.adapters.attempts.length, 1);
  assert.equal(new Set(responses.map((response) => response.headers.get("x-request-id"))).size, 20);
  const costs = responses.map((response) => response.headers.get("x-signalbox-cost-usd"));
  assert.equal(costs.filter((cost) => Number(cost) > 0).length, 1);
  assert.equal(ingress.outbox.records.filter(({ kind }) => kind === 2).length, 1);
});

test("one that joins late gets a stream from its start", async () => {
  const first = postChat(ingress, chatBody({ ...SAME, stream: true }));
  const attempt = await ingress.adapters.at(0);
  attempt.role();
  attempt.delta("early ");
  await first;
  const second = await postChat(ingress, chatBody({ ...SAME, stream: true }));
  attempt.delta("late");
  attempt.ok();
  const [a, b] = await Promise.all([(await first).text(), second.text()]);
  assert.equal(a, b);
  const warnings = [await first, second].map((response) => response.headers.get("x-signalbox-warnings"));
  assert.deepEqual(warnings, [null, "single_flight: shared"], "fault: a stream did not say that it was shared");
  assert.ok(b.includes("early ") && b.includes("late") && b.endsWith("data: [DONE]\n\n"), b);
  assert.equal(ingress.adapters.attempts.length, 1);
});

test("the leader's client may leave without the others noticing, and when all have left the call ends", async () => {
  const leader = new AbortController();
  const body = chatBody({ ...SAME, stream: true });
  const first = await startStream(body, leader);
  const second = await postChat(ingress, body);
  const follower = new AbortController();
  const third = await postChat(ingress, body, { signal: follower.signal });
  leader.abort();
  await first.text().catch(() => "");
  await turns();
  const attempt = ingress.adapters.attempts[0]!;
  assert.equal(attempt.cancelReason, undefined);
  attempt.delta("still here");
  follower.abort();
  await third.text().catch(() => "");
  attempt.ok();
  const text = await second.text();
  assert.ok(text.includes("still here") && text.endsWith("data: [DONE]\n\n"));
  const lonely = new AbortController();
  await startStream(body, lonely);
  const cancelled = once(ingress.adapters.attempts[1]!.events, "cancel");
  lonely.abort();
  await cancelled;
});

async function startStream(body: unknown, controller: AbortController): Promise<Response> {
  const index = ingress.adapters.attempts.length;
  const pending = postChat(ingress, body, { signal: controller.signal });
  const attempt = await ingress.adapters.at(index);
  attempt.role();
  attempt.delta("go");
  return pending;
}

test("a failure is everybody's, and the next request tries anew", async () => {
  const pending = [1, 2].map(() => postChat(ingress, chatBody(SAME)));
  const attempt = await ingress.adapters.at(0);
  await turns();
  attempt.fail("UPSTREAM_REJECTED", { message: "no", httpStatus: 400 });
  for (const response of await Promise.all(pending)) assert.equal(response.status, 400);
  ingress.adapters.answers("alpha", ["yes"]);
  assert.equal((await postChat(ingress, chatBody(SAME))).status, 200);
});

test("requests that differ, may differ or did not opt in go alone", async () => {
  ingress.adapters.answers("alpha", ["x"]);
  const bodies = [
    chatBody(),
    chatBody({ temperature: 0, n: 1 }),
    chatBody({ temperature: 0, tools: [{ type: "function", function: { name: "f" } }] }),
    chatBody({ ...SAME, model: "alone" }),
  ];
  for (const body of bodies) {
    ingress.adapters.attempts.length = 0;
    const twins = body["n"] === 1 ? [body, chatBody({ temperature: 0, n: 1, seed: 4 })] : [body, body];
    await Promise.all(twins.map(async (twin) => (await postChat(ingress, twin)).text()));
    assert.equal(ingress.adapters.attempts.length, 2, JSON.stringify(body));
  }
  ingress.adapters.attempts.length = 0;
  const headers = [{ "x-signalbox-tags": "a=1" }, { "x-signalbox-tags": "a=2" }];
  await Promise.all(headers.map(async (header) => (await postChat(ingress, chatBody(SAME), { headers: header })).text()));
  assert.equal(ingress.adapters.attempts.length, 2);
});

class SlowReply implements Reply {
  bytes = 0;
  blocks = false;
  error: SignalboxError | undefined;
  finished = false;
  open(): void {}
  write(bytes: Uint8Array): boolean {
    this.bytes += bytes.length;
    return !this.blocks;
  }
  keepAlive(): void {}
  finish(): void {
    this.finished = true;
  }
  whole(): void {}
  fail(error: SignalboxError): void {
    this.error = error;
  }
  drop(): void {}
  pendingBytes(): number {
    return 0;
  }
}

test("a slow reader does not hold the others up: it is cut once it is a buffer behind, alone it holds the call back", () => {
  const flight = new Flight(() => {});
  const [quick, slow] = [new SlowReply(), new SlowReply()];
  slow.blocks = true;
  const first = flight.board(quick, "1");
  flight.board(slow, "2");
  flight.open({ warnings: [] } as unknown as ReplyFacts);
  const piece = new Uint8Array(FLIGHT_BUFFER_MAX_BYTES / 8);
  for (let count = 0; count < 10; count++) assert.equal(flight.write(piece), true);
  assert.equal(quick.bytes, 10 * piece.length);
  assert.equal(slow.error?.code, "stream_interrupted");
  assert.equal(flight.joinable, false);
  quick.blocks = true;
  flight.write(piece);
  assert.equal(flight.write(piece), false);
  for (let count = 0; count < 20; count++) flight.write(piece);
  quick.blocks = false;
  first.drained();
  flight.finish({ warnings: [] } as unknown as ReplyFacts, undefined);
  assert.deepEqual([quick.bytes, quick.finished], [32 * piece.length, true]);
});
