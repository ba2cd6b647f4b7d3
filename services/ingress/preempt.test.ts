import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { allow, candidate, chatBody, FakePolicy, postChat, startIngress, type TestIngress } from "./testing.ts";

let ingress: TestIngress;
before(async () => {
  ingress = await startIngress();
});
after(() => ingress.stop());
beforeEach(() => {
  const { adapters, outbox, policy } = ingress;
  adapters.scripts.clear();
  adapters.attempts.length = outbox.records.length = policy.reports.length = policy.requests.length = 0;
  policy.answer = new FakePolicy().answer;
});

/** The engine asks the first attempt of the first request to yield. */
function preemptFirst(): void {
  const { decisionId } = ingress.policy.requests[0]!;
  const { attemptId } = ingress.adapters.attempts[0]!.open;
  ingress.policy.preempt({ $typeName: "signalbox.policy.v1.Preemption", decisionId, attemptId });
}

for (const stream of [false, true]) {
  test(`an attempt that yields is cancelled, booked and marked, and its request decided anew, unseen (${stream ? "stream" : "whole"})`, async () => {
    const { adapters, policy, outbox } = ingress;
    // One attempt is all it may make: that it had to yield is not counted against it.
    policy.answer = () => allow([candidate("alpha")], { maxAttempts: 1 });
    const pending = postChat(ingress, chatBody({ stream }));
    const first = await adapters.at(0);
    if (stream) first.role();
    preemptFirst();
    assert.equal(first.cancelReason, "canceled");
    const second = await adapters.at(1);
    if (stream) {
      second.role();
      second.delta("whole");
    } else second.data('{"choices":[{"message":{"content":"whole"},"finish_reason":"stop"}]}');
    second.ok();
    const response = await pending;
    const text = await response.text();
    assert.equal(response.status, 200);
    assert.ok(text.includes("whole"));
    if (stream) assert.equal(text.match(/"role":"assistant"/g)?.length, 1);
    assert.deepEqual(
      policy.requests.map(({ exclude }) => exclude),
      [[], []],
    );
    assert.deepEqual(outbox.lines().toSorted(), ["INTENT alpha", "INTENT alpha", "POST alpha", "POST alpha"]);
    assert.deepEqual(
      outbox.records
        .map(({ purpose }) => purpose)
        .filter((purpose) => purpose !== "")
        .toSorted(),
      ["billed", "waste_preempted"],
    );
  });
}

test("an attempt whose answer has begun, or that ended, does not yield", async () => {
  const { adapters } = ingress;
  const pending = postChat(ingress, chatBody({ stream: true }));
  const first = await adapters.at(0);
  first.role();
  first.delta("begun");
  preemptFirst();
  assert.equal(first.cancelReason, undefined);
  first.ok();
  preemptFirst();
  assert.ok((await (await pending).text()).includes("begun"));
  preemptFirst();
  assert.equal(adapters.attempts.length, 1);
});

test("a client that leaves while its request that yielded is decided anew leaves nothing behind", async () => {
  const { adapters, policy } = ingress;
  policy.answer = () => allow([candidate("alpha")]);
  const leaving = new AbortController();
  const pending = postChat(ingress, chatBody({ stream: true }), { signal: leaving.signal }).catch(() => {});
  await adapters.at(0);
  const done = new Promise((resolve) => policy.events.once("done", resolve));
  policy.answer = () => new Promise(() => {});
  preemptFirst();
  leaving.abort();
  await Promise.all([pending, done]);
  assert.deepEqual(policy.cancelled, [policy.requests[0]!.decisionId]);
});
