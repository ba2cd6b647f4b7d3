import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { AttemptReportSchema, DecideRequestSchema, PolicyFallbackSchema } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { allow, FakePolicyHost } from "./fakes.ts";
import type { AttemptReport, DecideRequest, Decision, PolicyFallback, PolicySession } from "./policy.ts";

/** A session to the fake engine, and how to let go of both. */
export interface PolicyUnderTest {
  readonly session: PolicySession;
  close(): Promise<void>;
}

/** Resolves when `holds` does, looked at after every turn of the event loop; fails after a few seconds. */
export async function eventually(holds: () => boolean, what = "condition"): Promise<void> {
  const untilMs = performance.now() + 60_000;
  while (!holds()) {
    if (performance.now() > untilMs) assert.fail(`${what} never held`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A request with an id and nothing else. */
export function requestOf(decisionId: string): DecideRequest {
  return create(DecideRequestSchema, { decisionId, model: "chat", tags: { a: "1" }, prefixHashes: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) });
}

/** The report that releases a decision. */
export function reportOf(decisionId: string, event: AttemptReport["event"]): AttemptReport {
  return create(AttemptReportSchema, { decisionId, attemptId: `${decisionId}-1`, backend: "backend-a", event });
}

/** What a policy peer promises, near or far. `open` gives a connected session to `host`. */
export function policyContract(name: string, open: (host: FakePolicyHost) => Promise<PolicyUnderTest>): void {
  const suite = (title: string, run: (host: FakePolicyHost, session: PolicySession) => Promise<void>): void => {
    test(`${name}: ${title}`, async () => {
      const host = new FakePolicyHost();
      const under = await open(host);
      try {
        await run(host, under.session);
      } finally {
        await under.close();
      }
    });
  };

  suite("an answer known at once arrives with everything in it", async (host, session) => {
    const decision = await session.decide(requestOf("one")).decision;
    assert.deepEqual(decision, allow("one", "backend-a"));
    assert.deepEqual(host.requests, [requestOf("one")]);
  });

  suite("a queued request is answered when its turn comes, and others overtake it", async (host, session) => {
    let dispatch: (decision: Decision) => void = () => {};
    host.answer = (request) =>
      request.decisionId === "slow" ? new Promise((resolve) => (dispatch = resolve)) : allow(request.decisionId, "backend-b");
    const order: string[] = [];
    const slow = Promise.resolve(session.decide(requestOf("slow")).decision).then((decision) => order.push(decision.decisionId));
    await eventually(() => host.requests.length === 1);
    await Promise.resolve(session.decide(requestOf("fast")).decision).then((decision) => order.push(decision.decisionId));
    dispatch(allow("slow", "backend-a"));
    await slow;
    assert.deepEqual(order, ["fast", "slow"]);
  });

  suite("a cancelled request is withdrawn from the engine", async (host, session) => {
    host.answer = () => new Promise(() => {});
    const ticket = session.decide(requestOf("gone"));
    Promise.resolve(ticket.decision).catch(() => {});
    await eventually(() => host.requests.length === 1);
    ticket.cancel();
    await eventually(() => host.cancelled.length === 1, "the cancellation");
    assert.deepEqual(host.cancelled, ["gone"]);
  });

  suite("a request that is withdrawn and asks again at once gets the answer to its second question", async (host, session) => {
    let answerLater: (decision: Decision) => void = () => {};
    // As an engine does it: what is withdrawn is answered, so that nobody hangs.
    host.onEvent = () => (host.cancelled.length > 0 ? answerFirst(allow("again", "first")) : undefined);
    let answerFirst: (decision: Decision) => void = () => {};
    host.answer = () =>
      host.requests.length === 1 ? new Promise((resolve) => (answerFirst = resolve)) : new Promise((resolve) => (answerLater = resolve));
    const before = session.decide(requestOf("again"));
    Promise.resolve(before.decision).catch(() => {});
    await eventually(() => host.requests.length === 1);
    before.cancel();
    const after = Promise.resolve(session.decide(requestOf("again")).decision);
    await eventually(() => host.requests.length === 2, "the second question");
    await new Promise((resolve) => setImmediate(resolve));
    answerLater(allow("again", "second"));
    assert.deepEqual(await after, allow("again", "second"));
  });

  suite("reports reach the engine in order", async (host, session) => {
    await session.decide(requestOf("told")).decision;
    const started = reportOf("told", {
      case: "started",
      value: { $typeName: "signalbox.policy.v1.AttemptStarted", attempt: 1, hedge: false },
    });
    const gap = reportOf("told", { case: "gap", value: { $typeName: "signalbox.policy.v1.AttemptGap", gapMs: 12.5, outputTokens: 7 } });
    const done = reportOf("told", { case: "requestDone", value: { $typeName: "signalbox.policy.v1.RequestDone" } });
    for (const report of [started, gap, done]) session.report(report);
    await eventually(() => host.reports.length === 3, "three reports");
    assert.deepEqual(host.reports, [started, gap, done]);
  });

  suite("the fallback is pushed, and a late listener gets the current one at once", async (host, session) => {
    const fallback = create(PolicyFallbackSchema, {
      configVersion: "v1",
      models: [{ model: "chat", candidates: [{ backend: "a", usable: true }] }],
    });
    const heard: PolicyFallback[] = [];
    session.onFallback((one) => heard.push(one));
    host.push(fallback);
    await eventually(() => heard.length === 1, "the fallback");
    assert.deepEqual(session.fallback, fallback);
    session.onFallback((one) => heard.push(one));
    assert.deepEqual(heard, [fallback, fallback]);
  });

  suite("an attempt that should yield is named to the ingress", async (host, session) => {
    const heard: string[] = [];
    session.onPreemption(({ decisionId, attemptId }) => heard.push(`${decisionId} ${attemptId}`));
    await session.decide(requestOf("victim")).decision;
    host.preempt("victim", "victim-1");
    await eventually(() => heard.length === 1, "the preemption");
    assert.deepEqual(heard, ["victim victim-1"]);
  });

  suite("a thousand requests at once each get their own answer", async (host, session) => {
    host.answer = (request) => allow(request.decisionId, `for-${request.decisionId}`);
    const ids = Array.from({ length: 1000 }, (_, index) => `id-${index}`);
    const decisions = await Promise.all(ids.map((id) => Promise.resolve(session.decide(requestOf(id)).decision)));
    assert.deepEqual(
      decisions.map((decision) => decision.result.case === "allow" && decision.result.value.candidates[0]?.backend),
      ids.map((id) => `for-${id}`),
    );
  });

  suite("closing the session releases it at the engine", async (host, session) => {
    assert.equal(session.connected, true);
    session.close();
    await eventually(() => host.sessions.every((one) => !one.open), "the release");
  });
}
