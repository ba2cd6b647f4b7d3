import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { UsageSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { create } from "@bufbuild/protobuf";
import { ModelFallbackSchema, Outcome, type PolicyFallback, PolicyFallbackSchema } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { FakeClock } from "#libs/clock/fake.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { allow, candidate, chatBody, deny, FakePolicy, postChat, startIngress, type TestIngress } from "./testing.ts";

interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string };
  request_id: string;
}

let ingress: TestIngress;
before(async () => {
  ingress = await startIngress();
});
after(() => ingress.stop());
beforeEach(() => {
  ingress.adapters.scripts.clear();
  ingress.adapters.unserved.clear();
  ingress.adapters.attempts.length = 0;
  ingress.outbox.records.length = 0;
  ingress.outbox.accepting = true;
  ingress.outbox.holdsAnswers = false;
  ingress.policy.reports.length = 0;
  ingress.policy.requests.length = 0;
  ingress.policy.fallback = undefined;
  ingress.policy.answer = new FakePolicy().answer;
});

async function errorOf(response: Response): Promise<ErrorBody> {
  return (await response.json()) as ErrorBody;
}

const FAILURES = ["UPSTREAM_UNAVAILABLE", "UPSTREAM_TIMEOUT", "UPSTREAM_PROTOCOL", "UPSTREAM_UNAUTHORIZED", "UPSTREAM_RATE_LIMITED"];
for (const reason of FAILURES) {
  for (const stream of [false, true]) {
    test(`${reason} before the first content goes to the next candidate unseen (${stream ? "stream" : "whole"})`, async () => {
      ingress.adapters.fails("alpha", reason);
      ingress.adapters.answers("beta", ["from beta"]);
      const response = await postChat(ingress, chatBody({ stream }));
      assert.equal(response.status, 200);
      assert.equal(response.headers.get("x-signalbox-backend"), "beta");
      assert.equal(response.headers.get("x-signalbox-attempts"), "2");
      assert.ok((await response.text()).includes("from beta"));
      assert.deepEqual(ingress.outbox.lines(), ["INTENT alpha", "POST alpha", "INTENT beta", "POST beta"]);
      assert.deepEqual(
        ingress.outbox.records.map((record) => record.purpose),
        ["", "waste_retry", "", "billed"],
      );
      assert.equal(ingress.outbox.records[1]!.costNanoUsd, 0n);
    });
  }
}

test("a role-only preamble does not commit: the client sees only the second backend's", async () => {
  ingress.adapters.scripts.set("alpha", (attempt) => {
    attempt.role();
    attempt.fail("UPSTREAM_PROTOCOL");
  });
  ingress.adapters.answers("beta", ["b"]);
  const text = await (await postChat(ingress, chatBody({ stream: true }))).text();
  assert.equal(text.match(/"role":"assistant"/g)?.length, 1);
  assert.ok(text.endsWith("data: [DONE]\n\n"));
});

test("a stream that breaks after content ends with an error event and no [DONE]", async () => {
  ingress.adapters.scripts.set("alpha", (attempt) => {
    attempt.role();
    attempt.delta("half");
    attempt.fail("UPSTREAM_UNAVAILABLE");
  });
  ingress.adapters.answers("beta", ["never"]);
  const response = await postChat(ingress, chatBody({ stream: true }));
  assert.equal(response.status, 200);
  const events = (await response.text()).split("\n\n").filter((event) => event !== "");
  assert.ok(events.some((event) => event.includes("half")));
  const last = JSON.parse(events.at(-1)!.slice(6)) as ErrorBody;
  assert.equal(last.error.code, "stream_interrupted");
  assert.equal(last.request_id, response.headers.get("x-request-id"));
  assert.equal(
    events.some((event) => event.includes("[DONE]") || event.includes("secret")),
    false,
  );
  assert.equal(ingress.adapters.attempts.length, 1);
  const posted = ingress.outbox.records[1]!;
  assert.equal(posted.estimated, true);
  assert.ok(posted.costNanoUsd > 0n);
});

test("a whole answer that breaks off half-way is fetched from the next candidate", async () => {
  ingress.adapters.scripts.set("alpha", (attempt) => {
    attempt.data('{"half":');
    attempt.fail("UPSTREAM_UNAVAILABLE");
  });
  ingress.adapters.answers("beta", ["whole"]);
  const response = await postChat(ingress, chatBody());
  assert.ok((await response.text()).includes("whole"));
});

test("when every backend failed the answer is 502 without a retry and without the upstream's text", async () => {
  ingress.adapters.fails("alpha", "UPSTREAM_UNAVAILABLE");
  ingress.adapters.fails("beta", "UPSTREAM_PROTOCOL");
  const response = await postChat(ingress, chatBody());
  assert.equal(response.status, 502);
  assert.equal(response.headers.get("x-should-retry"), "false");
  assert.equal(response.headers.get("x-signalbox-attempts"), "2");
  const { error } = await errorOf(response);
  assert.deepEqual([error.type, error.code], ["server_error", "upstream_invalid"]);
  assert.equal(error.message.includes("secret"), false);
  assert.deepEqual(
    ingress.policy.requests.map((request) => request.exclude),
    [[], ["alpha", "beta"]],
  );
});

test("when the last backend standing is rate limited the answer is 429 with its wait", async () => {
  ingress.adapters.fails("alpha", "UPSTREAM_UNAVAILABLE");
  ingress.adapters.fails("beta", "UPSTREAM_RATE_LIMITED", { retryAfterMs: 7_000 });
  const response = await postChat(ingress, chatBody(), { headers: { "x-signalbox-deadline-ms": "5000" } });
  assert.equal(response.status, 429);
  assert.equal(response.headers.get("retry-after"), "7");
  assert.equal(response.headers.get("x-should-retry"), "true");
  assert.equal((await errorOf(response)).error.code, "upstream_rate_limited");
});

test("a provider's rejection reaches the caller with its message, param, code and status", async () => {
  ingress.adapters.fails("alpha", "UPSTREAM_REJECTED", {
    message: "Bad schema.",
    param: "tools[0]",
    code: "invalid_function",
    httpStatus: 422,
    type: "invalid_request_error",
  });
  const response = await postChat(ingress, chatBody());
  assert.equal(response.status, 422);
  assert.deepEqual((await errorOf(response)).error, {
    message: "Bad schema.",
    type: "invalid_request_error",
    param: "tools[0]",
    code: "invalid_function",
  });
  assert.equal(ingress.adapters.attempts.length, 1);
});

test("a context too long for one backend goes to one with a larger window only", async () => {
  ingress.adapters.fails("alpha", "UPSTREAM_REJECTED", { contextLength: true, code: "context_length_exceeded", httpStatus: 400 });
  ingress.adapters.answers("beta", ["fits"]);
  assert.ok((await (await postChat(ingress, chatBody())).text()).includes("fits"));
  ingress.policy.answer = () => allow([candidate("beta"), candidate("alpha")]);
  ingress.adapters.fails("beta", "UPSTREAM_REJECTED", { contextLength: true, code: "context_length_exceeded", httpStatus: 400 });
  ingress.adapters.answers("alpha", ["smaller"]);
  const response = await postChat(ingress, chatBody());
  assert.equal(response.status, 400);
  assert.equal((await errorOf(response)).error.code, "context_length_exceeded");
});

test("a busy adapter and an unserved backend are skipped and cost no attempt", async () => {
  ingress.adapters.scripts.set("alpha", (attempt) => attempt.fail("UPSTREAM_UNAVAILABLE", { busy: true }, { dispatched: false }));
  ingress.adapters.answers("beta", ["b"]);
  ingress.policy.answer = () => allow([candidate("gone"), candidate("alpha"), candidate("beta")], { maxAttempts: 1 });
  ingress.adapters.unserved.add("gone");
  assert.equal((await postChat(ingress, chatBody())).status, 200);
  assert.deepEqual(ingress.outbox.lines(), ["INTENT alpha", "VOID alpha", "INTENT beta", "POST beta"]);
});

test("a request whose only backend is full for the moment is decided anew until there is room", async () => {
  let calls = 0;
  ingress.policy.answer = (request) =>
    request.exclude.length > 0 ? deny("NO_BACKEND", "none") : allow([candidate("alpha")], { maxAttempts: 1 });
  ingress.adapters.answers("alpha", ["its turn"]);
  const answers = ingress.adapters.scripts.get("alpha")!;
  ingress.adapters.scripts.set("alpha", (attempt) =>
    ++calls <= 2 ? attempt.fail("UPSTREAM_UNAVAILABLE", { busy: true }, { dispatched: false }) : answers(attempt),
  );
  assert.ok((await (await postChat(ingress, chatBody())).text()).includes("its turn"));
  assert.equal(calls, 3);
});

test("attempts never exceed the decision's number", async () => {
  ingress.policy.answer = () => allow([candidate("alpha"), candidate("beta"), candidate("alpha")], { maxAttempts: 2 });
  ingress.adapters.fails("alpha", "UPSTREAM_UNAVAILABLE");
  ingress.adapters.fails("beta", "UPSTREAM_UNAVAILABLE");
  assert.equal((await postChat(ingress, chatBody())).status, 502);
  assert.equal(ingress.adapters.attempts.length, 2);
});

test("a single backend is asked again after a back-off while attempts are left", async () => {
  let calls = 0;
  ingress.policy.answer = (request) => (request.exclude.length > 0 ? deny("NO_BACKEND", "none") : allow([candidate("alpha")]));
  ingress.adapters.answers("alpha", ["second time"]);
  const answers = ingress.adapters.scripts.get("alpha")!;
  ingress.adapters.scripts.set("alpha", (attempt) =>
    ++calls === 1 ? attempt.fail("UPSTREAM_UNAVAILABLE", { untouched: true }) : answers(attempt),
  );
  assert.ok((await (await postChat(ingress, chatBody())).text()).includes("second time"));
});

test("the deadline ends a silent request with 504 and cancels upstream", async () => {
  ingress.adapters.scripts.set("alpha", () => {});
  const response = await postChat(ingress, chatBody(), { headers: { "x-signalbox-deadline-ms": "120" } });
  assert.equal(response.status, 504);
  assert.equal(response.headers.get("x-should-retry"), "false");
  const { error } = await errorOf(response);
  assert.deepEqual([error.type, error.code], ["timeout_error", "deadline_exceeded"]);
  assert.equal(ingress.adapters.attempts[0]!.cancelReason, "deadline");
  assert.equal(ingress.adapters.attempts[0]!.open.deadlineMs <= 120, true);
});

test("the deadline ends a running stream with an error event", async () => {
  ingress.adapters.scripts.set("alpha", (attempt) => attempt.delta("x"));
  const response = await postChat(ingress, chatBody({ stream: true }), { headers: { "x-signalbox-deadline-ms": "120" } });
  const text = await response.text();
  assert.ok(text.includes("deadline_exceeded"));
  assert.equal(text.includes("[DONE]"), false);
});

test("a backend without content past its ceiling is left for the next one", async () => {
  ingress.policy.answer = () => allow([candidate("alpha", { firstTokenTimeoutMs: 1 }), candidate("beta")]);
  ingress.adapters.scripts.set("alpha", () => {});
  ingress.adapters.answers("beta", ["b"]);
  const response = await postChat(ingress, chatBody({ stream: true }));
  assert.equal(response.headers.get("x-signalbox-backend"), "beta");
  assert.ok((await response.text()).includes("[DONE]"));
  assert.equal(ingress.adapters.attempts[0]!.cancelReason, "deadline");
});

test("a hedge starts when the first backend stays silent, the first content wins and the loser is booked as waste", async () => {
  ingress.policy.answer = () => allow([candidate("alpha", { hedgeAfterMs: 1 }), candidate("beta")]);
  ingress.adapters.scripts.set("alpha", () => {});
  ingress.adapters.answers("beta", ["quick"]);
  const response = await postChat(ingress, chatBody({ stream: true }));
  assert.ok((await response.text()).includes("quick"));
  assert.equal(ingress.adapters.attempts[0]!.cancelReason, "hedge_lost");
  const purposes = ingress.outbox.records.filter((record) => record.kind === 2).map((record) => `${record.backend} ${record.purpose}`);
  assert.deepEqual(purposes.sort(), ["alpha waste_hedge", "beta billed"]);
});

test("a denial's reason becomes the caller's error", async () => {
  const cases: [string, number, string, string][] = [
    ["MODEL_UNKNOWN", 404, "model_not_found", "false"],
    ["NO_CAPABLE_BACKEND", 400, "no_capable_backend", "false"],
    ["NO_BACKEND", 503, "no_backend_available", "true"],
    ["QUEUE_FULL", 429, "queue_full", "true"],
    ["RATE_LIMITED", 429, "rate_limit_exceeded", "true"],
    ["BUDGET_EXHAUSTED", 429, "budget_exceeded", "false"],
    ["POLICY_DENIED", 403, "model_not_allowed", "false"],
  ];
  for (const [reason, status, code, retry] of cases) {
    ingress.policy.answer = () => deny(reason, `because of ${reason}`, { param: "model" });
    const response = await postChat(ingress, chatBody());
    assert.deepEqual([response.status, response.headers.get("x-should-retry")], [status, retry], reason);
    const { error } = await errorOf(response);
    assert.deepEqual([error.code, error.message, error.param], [code, `because of ${reason}`, "model"]);
    if (retry === "true") assert.ok(Number(response.headers.get("retry-after")) >= 1);
  }
  assert.equal(ingress.outbox.records.length, 0);
});

test("without an engine the pushed fallback decides, filtered by capability, and is marked stale", async () => {
  ingress.policy.answer = () => Promise.reject(new SignalboxError("NO_BACKEND", "no engine", { code: "policy_unavailable" }));
  const model = create(ModelFallbackSchema, {
    model: "chat",
    aliases: ["gpt-4o-mini"],
    candidates: [
      { backend: "alpha", capabilities: 0, context: 8_000, usable: true },
      { backend: "beta", capabilities: 2, context: 200_000, usable: true },
    ],
    maxAttempts: 2,
  });
  ingress.policy.fallback = create(PolicyFallbackSchema, { configVersion: "v1", models: [model] });
  ingress.adapters.answers("beta", ["seen"]);
  ingress.tracing.emitted.length = 0;
  const picture = { role: "user", content: [{ type: "image_url", image_url: { url: "data:image/png;base64,AA==" } }] };
  const response = await postChat(ingress, chatBody({ model: "gpt-4o-mini", messages: [picture] }));
  assert.equal(response.headers.get("x-signalbox-backend"), "beta");
  await response.text();
  assert.equal(ingress.tracing.emitted[0]!.spans[1]!.attributes["signalbox.policy.stale"], true);
  ingress.policy.fallback = undefined;
  assert.equal((await postChat(ingress, chatBody())).status, 503);
});

test("fault: without an engine a request whose only backend was called slow was refused, though it answers", async () => {
  ingress.policy.answer = () => Promise.reject(new SignalboxError("NO_BACKEND", "no engine", { code: "policy_unavailable" }));
  const slow = { backend: "alpha", context: 8_000, usable: false, lastResort: true };
  const fallbackOf = (...candidates: { backend: string; context: number; usable: boolean; lastResort?: boolean }[]): PolicyFallback =>
    create(PolicyFallbackSchema, { configVersion: "v1", models: [{ model: "chat", candidates, maxAttempts: 2 }] });
  ingress.adapters.answers("alpha", ["slowly"]);
  ingress.adapters.answers("beta", ["quickly"]);
  ingress.policy.fallback = fallbackOf(slow);
  assert.ok((await (await postChat(ingress, chatBody())).text()).includes("slowly"));
  ingress.policy.fallback = fallbackOf(slow, { backend: "beta", context: 8_000, usable: true });
  assert.ok((await (await postChat(ingress, chatBody())).text()).includes("quickly"));
  ingress.policy.fallback = fallbackOf({ ...slow, lastResort: false });
  assert.equal((await postChat(ingress, chatBody())).status, 503);
});

test("a mistake of ours ends one request with 500 and leaves the process serving", async () => {
  const append = ingress.outbox.append.bind(ingress.outbox);
  ingress.adapters.answers("alpha", ["fine"]);
  ingress.outbox.append = (record) => {
    if (record.kind === 2) throw new Error("a bug");
    append(record);
  };
  try {
    const response = await postChat(ingress, chatBody());
    assert.equal(response.status, 500);
    const { error } = await errorOf(response);
    assert.deepEqual([error.code, error.message.includes("bug")], ["internal_error", false]);
  } finally {
    ingress.outbox.append = append;
  }
  assert.equal((await postChat(ingress, chatBody())).status, 200);
});

test("nothing reaches the client before the intent is durable", async () => {
  ingress.outbox.holdsAnswers = true;
  ingress.adapters.answers("alpha", ["now"]);
  let answered = false;
  const pending = postChat(ingress, chatBody({ stream: true })).then((response) => {
    answered = true;
    return response;
  });
  const attempt = await ingress.adapters.at(0);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(attempt.sentBytes > 0, true);
  assert.equal(answered, false);
  ingress.outbox.makeDurable();
  assert.ok((await (await pending).text()).includes("[DONE]"));
});

test("an outbox that takes nothing new, or loses an intent, ends in 503 before anything was sent", async () => {
  ingress.outbox.accepting = false;
  const refused = await postChat(ingress, chatBody());
  assert.equal(refused.status, 503);
  assert.equal((await errorOf(refused)).error.code, "ledger_unavailable");
  assert.equal(ingress.adapters.attempts.length, 0);
  ingress.outbox.accepting = true;
  ingress.outbox.holdsAnswers = true;
  ingress.adapters.answers("alpha", ["lost"]);
  const pending = postChat(ingress, chatBody({ stream: true }));
  await ingress.adapters.at(0);
  ingress.outbox.makeDurable(new Error("disk"));
  const failed = await pending;
  assert.equal(failed.status, 503);
  assert.equal((await failed.text()).includes("lost"), false);
});

test("usage without the provider's word is booked as an estimate", async () => {
  ingress.adapters.scripts.set("alpha", (attempt) => {
    attempt.data("{}");
    attempt.finish({
      outcome: Outcome.OK,
      usage: create(UsageSchema, { inputTokens: 3, outputTokens: 4 }),
      usageKnown: false,
      dispatched: true,
    });
  });
  await (await postChat(ingress, chatBody())).text();
  const posted = ingress.outbox.records[1]!;
  assert.deepEqual([posted.estimated, posted.costNanoUsd, posted.usage?.outputTokens], [true, 11n, 4]);
});

test("a retry budget that is spent ends with the last upstream error", async () => {
  const poor = await startIngress({ clock: new FakeClock() });
  try {
    // The first failover of a request costs 0.2 tokens, the second 1; the budget holds 100 and earns 0.1 per request.
    poor.adapters.fails("alpha", "UPSTREAM_UNAVAILABLE");
    poor.adapters.fails("beta", "UPSTREAM_UNAVAILABLE");
    poor.adapters.answers("gamma", ["g"]);
    poor.policy.answer = () => allow([candidate("alpha"), candidate("beta"), candidate("gamma")]);
    let good = 0;
    while (good < 200 && (await postChat(poor, chatBody())).status === 200) good++;
    assert.ok(good >= 80 && good < 110, `${good} requests failed over twice before the budget was spent`);
    const refused = await postChat(poor, chatBody());
    assert.equal(refused.status, 502);
    assert.equal(refused.headers.get("x-signalbox-attempts"), "2");
  } finally {
    await poor.stop();
  }
});
