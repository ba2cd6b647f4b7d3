import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { MidStream, RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { FakeClock } from "#libs/clock/fake.ts";
import { createConfigSource } from "#libs/config/index.ts";
import { RateWaits } from "./rate-waits.ts";
import { allow, candidate, chatBody, deny, postChat, startIngress, testConfig, type TestIngress } from "./testing.ts";

test("a class waits as long for a rate limit as in its queue, an interactive request three targets at most", () => {
  const waits = new RateWaits(createConfigSource(testConfig()));
  assert.equal(waits.longestMs(RequestClass.STANDARD, 5_000, 1_000), 59_000);
  assert.equal(waits.longestMs(RequestClass.INTERACTIVE, 1_000, 0), 3_000);
  assert.equal(waits.longestMs(RequestClass.INTERACTIVE, 0, 0), 10_000);
  assert.equal(waits.longestMs(RequestClass.SYSTEM, 0, 0), 0);
});

test("no more wait for a rate limit than the class's queue holds", () => {
  const { classes } = testConfig();
  const small = { ...classes, interactive: { ...classes.interactive, queueMax: 2 } };
  const waits = new RateWaits(createConfigSource(testConfig({ classes: small })));
  const first = waits.enter(RequestClass.INTERACTIVE);
  assert.ok(first && waits.enter(RequestClass.INTERACTIVE));
  assert.equal(waits.enter(RequestClass.INTERACTIVE), undefined);
  assert.ok(waits.enter(RequestClass.BATCH), "classes do not take each other's places");
  first();
  first();
  assert.equal(waits.size, 2);
  assert.ok(waits.enter(RequestClass.INTERACTIVE));
});

/** An ingress whose clock stands still, and one request to a policy engine that answers as `answer` says. */
async function onStandingClock(use: (ingress: TestIngress, clock: FakeClock) => Promise<void>): Promise<void> {
  const clock = new FakeClock();
  const ingress = await startIngress({ clock });
  try {
    await use(ingress, clock);
  } finally {
    await ingress.stop();
  }
}

const LIMITED = { reason: "UPSTREAM_RATE_LIMITED", detail: "Every backend of model 'chat' is rate limited" };

test("the only backend's 429 was handed on at once: its retry-after is waited for, and the client sees the answer only", () =>
  onStandingClock(async (ingress, clock) => {
    const { policy, adapters } = ingress;
    policy.answer = (request) =>
      request.exclude.length === 0 ? allow([candidate("alpha")]) : deny(LIMITED.reason, LIMITED.detail, { retryAfterMs: 2_000 });
    adapters.fails("alpha", "UPSTREAM_RATE_LIMITED", { retryAfterMs: 2_000 });
    const pending = postChat(ingress, chatBody());
    while (policy.requests.length < 2) await once(policy.events, "decide");
    assert.equal(adapters.attempts.length, 1);
    clock.advance(1_900);
    assert.equal(policy.requests.length, 2, "too early");
    adapters.answers("alpha", ["at last"]);
    clock.advance(300);
    const response = await pending;
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("x-signalbox-attempts"), "2");
    assert.ok((await response.text()).includes("at last"));
    assert.deepEqual(ingress.outbox.lines(), ["INTENT alpha", "POST alpha", "INTENT alpha", "POST alpha"]);
  }));

test("a request that finds every backend rate limited waits for the first to be free again", () =>
  onStandingClock(async (ingress, clock) => {
    const { policy, adapters } = ingress;
    policy.answer = () => deny(LIMITED.reason, LIMITED.detail, { retryAfterMs: 1_000 });
    const pending = postChat(ingress, chatBody());
    await once(policy.events, "decide");
    policy.answer = () => allow([candidate("beta")]);
    adapters.answers("beta", ["later"]);
    clock.advance(1_200);
    const response = await pending;
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("x-signalbox-attempts"), "1");
    const timing = response.headers.get("server-timing")!;
    assert.match(timing, /^queue;dur=1\d\d\d\.\d, route;dur=0\.0,/, "fault: the wait counted as the gateway's own time");
    assert.match(ingress.metrics.render(), /signalbox_overhead_seconds_bucket\{le="0\.0001"\} 1/);
  }));

test("fault: a refused request was counted under no model", () =>
  onStandingClock(async (ingress) => {
    ingress.policy.answer = () => deny("NO_BACKEND", "none");
    assert.equal((await postChat(ingress, chatBody())).status, 503);
    assert.match(ingress.metrics.render(), /signalbox_requests_total\{model="chat",status="503"\} 1/);
  }));

test("fault: a stream that broke at the trial of a breaker ended with the words for a request that found nobody", () =>
  onStandingClock(async (ingress) => {
    const { policy, adapters } = ingress;
    policy.answer = () => allow([candidate("alpha", { standing: "trial" })], { maxAttempts: 1, midStream: MidStream.RESUME });
    const pending = postChat(ingress, chatBody({ stream: true }));
    const attempt = await adapters.at(0);
    attempt.role();
    attempt.delta("so far");
    attempt.fail("UPSTREAM_UNAVAILABLE");
    const text = await (await pending).text();
    assert.match(text, /"code":"stream_interrupted"/);
    assert.ok(text.includes("so far") && !text.includes("[DONE]"));
  }));

test("a retry-after beyond the deadline, or beyond what the class waits, is a 429 at once", () =>
  onStandingClock(async (ingress) => {
    const { policy, adapters } = ingress;
    policy.answer = (request) =>
      request.exclude.length === 0
        ? allow([candidate("alpha")], { requestClass: RequestClass.INTERACTIVE, ttftTargetMs: 1_000 })
        : deny(LIMITED.reason, LIMITED.detail, { retryAfterMs: 4_000 });
    adapters.fails("alpha", "UPSTREAM_RATE_LIMITED", { retryAfterMs: 4_000 });
    const late = await postChat(ingress, chatBody());
    assert.equal(late.status, 429);
    assert.equal(late.headers.get("retry-after"), "4");
    adapters.fails("alpha", "UPSTREAM_RATE_LIMITED", { retryAfterMs: 2_500 });
    const short = await postChat(ingress, chatBody(), { headers: { "x-signalbox-deadline-ms": "2000" } });
    assert.equal(short.status, 429);
    adapters.fails("alpha", "UPSTREAM_RATE_LIMITED");
    const silent = await postChat(ingress, chatBody());
    assert.equal(silent.status, 429, "nobody knows for how long");
  }));

test("a client that leaves while its request waits for a rate limit gives its place back", () =>
  onStandingClock(async (ingress) => {
    const { policy } = ingress;
    policy.answer = () => deny(LIMITED.reason, LIMITED.detail, { retryAfterMs: 1_000 });
    const leaving = new AbortController();
    const pending = postChat(ingress, chatBody(), { signal: leaving.signal }).catch(() => {});
    await once(policy.events, "decide");
    const waiting = (): string => /awaiting_rate_limit (\d+)/.exec(ingress.metrics.render())![1]!;
    assert.equal(waiting(), "1");
    const over = once(policy.events, "done");
    leaving.abort();
    await Promise.all([pending, over]);
    assert.equal(waiting(), "0");
  }));

test("a client's request was answered 502 when it was the last trial of an open breaker: it is 503, and says when to come back", () =>
  onStandingClock(async (ingress) => {
    ingress.policy.answer = () => allow([candidate("alpha", { standing: "trial" })], { maxAttempts: 1 });
    ingress.adapters.fails("alpha", "UPSTREAM_UNAVAILABLE", { httpStatus: 500 });
    const response = await postChat(ingress, chatBody());
    assert.equal(response.status, 503);
    assert.equal(response.headers.get("x-should-retry"), "true");
    assert.ok(Number(response.headers.get("retry-after")) >= 1);
    const { error } = (await response.json()) as { error: { code: string; message: string } };
    assert.equal(error.code, "no_backend_available");
    assert.match(error.message, /'alpha'/);
  }));

test("when the last backend's breaker opened meanwhile the client hears that nobody is available, without more retries", () =>
  onStandingClock(async (ingress, clock) => {
    const { policy, adapters } = ingress;
    let asked = 0;
    policy.answer = (request) => {
      if (asked++ === 0) return allow([candidate("alpha")]);
      return deny("NO_BACKEND", request.exclude.length > 0 ? "alpha: tried" : "alpha: health (breaker open for 5 s more)", {
        retryAfterMs: 5_000,
      });
    };
    adapters.fails("alpha", "UPSTREAM_UNAVAILABLE");
    const pending = postChat(ingress, chatBody());
    while (policy.requests.length < 2) await once(policy.events, "decide");
    clock.advance(100);
    const response = await pending;
    assert.equal(response.status, 503);
    assert.equal(response.headers.get("retry-after"), "5");
    assert.equal(asked, 3);
  }));
