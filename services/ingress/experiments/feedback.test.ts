import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import {
  type RecordScoreRequest,
  type RecordScoreResponse,
  RecordScoreResponseSchema,
} from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import { FakeClock } from "#libs/clock/fake.ts";
import { createConfigSource } from "#libs/config/index.ts";
import type { LedgerPeer } from "#libs/peers/index.ts";
import { createMetrics } from "#libs/telemetry/index.ts";
import { allow, candidate, chatBody, controlState, FakeControl, postChat, startIngress, type TestIngress, testConfig } from "../testing.ts";
import { FeedbackDesk } from "./feedback.ts";
import { RecentAnswers } from "./recent-answers.ts";

let ingress: TestIngress;
const asked: RecordScoreRequest[] = [];
let answer: (request: RecordScoreRequest) => Promise<RecordScoreResponse>;

function found(request: RecordScoreRequest): RecordScoreResponse {
  return create(RecordScoreResponseSchema, { found: true, score: request.score! });
}

before(async () => {
  const ledger: Partial<LedgerPeer> = {
    recordScore: (request) => {
      asked.push(request);
      return answer(request);
    },
  };
  ingress = await startIngress({ ledger });
});
after(() => ingress.stop());
beforeEach(() => {
  asked.length = 0;
  answer = (request) => Promise.resolve(found(request));
});

function post(body: unknown, init: RequestInit = {}): Promise<Response> {
  return fetch(`${ingress.url}/v1/feedback`, { method: "POST", body: typeof body === "string" ? body : JSON.stringify(body), ...init });
}

test("an answer in an experiment can be scored at once, by the tenant that got it", async () => {
  ingress.policy.answer = () => allow([candidate("alpha")], { experiment: "x", arm: "b", experimentRevision: 4n });
  ingress.adapters.answers("alpha", ["hi"]);
  const { id } = (await (await postChat(ingress, chatBody())).json()) as { id: string };
  const response = await post({ response_id: id, score: 0.5, comment: "meh" });
  assert.deepEqual(
    [response.status, await response.json()],
    [200, { object: "feedback", response_id: id, metric: "quality", score: 0.5, experiment: "x=b" }],
  );
  const { attributed, score } = asked[0]!;
  assert.deepEqual(
    [attributed, score?.tenant, score?.source, score?.score, score?.experiment, score?.arm, score?.experimentRevision],
    [true, "default", "feedback", 0.5, "x", "b", 4n],
  );
  assert.equal(score?.comment, "", "comments are not kept unless content is");
});

test("feedback that makes no sense is refused in OpenAI's shape, and reaches nobody", async () => {
  const cases: readonly (readonly [body: unknown, status: number, param: string | null, code: string])[] = [
    ["{", 400, null, "invalid_json"],
    [{ score: 1 }, 400, "response_id", "invalid_value"],
    [{ response_id: "", score: 1 }, 400, "response_id", "invalid_value"],
    [{ response_id: "a\u0000b", score: 1 }, 400, "response_id", "invalid_value"],
    [{ response_id: "r1" }, 400, "score", "invalid_value"],
    [{ response_id: "r1", score: "1" }, 400, "score", "invalid_value"],
    [{ response_id: "r1", score: 1.01 }, 400, "score", "invalid_value"],
    [{ response_id: "r1", score: 1, metric: "Gut!" }, 400, "metric", "invalid_value"],
    [{ response_id: "r1", score: 1, comment: "x".repeat(2_001) }, 400, "comment", "invalid_value"],
    [{ response_id: "r1", score: 1, comment: "x".repeat(20_000) }, 413, null, "request_too_large"],
  ];
  for (const [body, status, param, code] of cases) {
    const response = await post(body);
    const { error } = (await response.json()) as { error: { param: string | null; code: string; type: string } };
    assert.deepEqual([response.status, error.param ?? null, error.code], [status, param, code], JSON.stringify(body).slice(0, 80));
  }
  assert.equal((await fetch(`${ingress.url}/v1/feedback`)).status, 405);
  assert.equal((await post({ response_id: "r1", score: 1 }, { headers: { origin: "https://evil.example" } })).status, 403);
  assert.equal((await post({ response_id: "r1", score: 1 }, { headers: { "content-encoding": "gzip" } })).status, 415);
  assert.deepEqual(asked, []);
});

test("while the ledger is away feedback is refused for now", async () => {
  answer = () => Promise.reject(new Error("away"));
  const response = await post({ response_id: "r1", score: 1 });
  const { error } = (await response.json()) as { error: { code: string } };
  assert.deepEqual([response.status, error.code, response.headers.get("x-should-retry")], [503, "feedback_unavailable", "true"]);
});

test("without a key nobody scores anything", async (t) => {
  const control = new FakeControl();
  control.current = controlState(1n, []);
  const closed = await startIngress({ config: testConfig({ auth: { mode: "keys" } }), control });
  t.after(() => closed.stop());
  const response = await fetch(`${closed.url}/v1/feedback`, { method: "POST", body: JSON.stringify({ response_id: "r1", score: 1 }) });
  assert.equal(response.status, 401);
});

/** A desk in virtual time. */
function desk(recordScore: LedgerPeer["recordScore"], captureContent = false): { desk: FeedbackDesk; clock: FakeClock } {
  const clock = new FakeClock();
  const base = testConfig();
  const config = createConfigSource({ ...base, telemetry: { ...base.telemetry, captureContent } });
  const ledger = { recordScore } as unknown as LedgerPeer;
  return { clock, desk: new FeedbackDesk({ config, clock, metrics: createMetrics(), ledger, recent: new RecentAnswers() }) };
}

const CALLER = { tenant: "acme", team: "", keyId: "k1", models: undefined, maxClass: 0, mayForceArm: false };
const BODY = Buffer.from('{"response_id":"r1","score":1,"comment":"good"}');

test("an answer that is not booked yet is looked for until it is", async () => {
  let looks = 0;
  const { desk: feedback, clock } = desk(
    (request) => Promise.resolve(++looks < 3 ? create(RecordScoreResponseSchema, {}) : found(request)),
    true,
  );
  const accepted = feedback.accept(CALLER, BODY);
  await clock.advanceAsync(5_000);
  assert.equal((JSON.parse(await accepted) as { object: string }).object, "feedback");
  assert.equal(looks, 3);
});

test("an answer that a tenant never got is not found, after a bounded wait", async () => {
  const requests: RecordScoreRequest[] = [];
  const { desk: feedback, clock } = desk((request) => {
    requests.push(request);
    return Promise.resolve(create(RecordScoreResponseSchema, {}));
  }, true);
  const refused = assert.rejects(feedback.accept(CALLER, BODY), { code: "response_not_found", httpStatus: 404 });
  await clock.advanceAsync(5_000);
  await refused;
  assert.ok(requests.length > 1 && requests.length < 20);
  assert.deepEqual([requests[0]!.attributed, requests[0]!.score?.tenant, requests[0]!.score?.comment], [false, "acme", "good"]);
});

test("feedback that waits is bounded", async () => {
  const { desk: feedback, clock } = desk(() => Promise.resolve(create(RecordScoreResponseSchema, {})));
  const outcomes = Array.from({ length: 300 }, () => feedback.accept(CALLER, BODY).catch((error: { reason: string }) => error.reason));
  await clock.advanceAsync(5_000);
  const refused = (await Promise.all(outcomes)).filter((reason) => reason === "QUEUE_FULL");
  assert.equal(refused.length, 300 - 256);
});
