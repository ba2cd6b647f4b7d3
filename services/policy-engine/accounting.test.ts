import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { create } from "@bufbuild/protobuf";
import { RateLimitStateSchema } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { HealthState } from "#gen/signalbox/health/v1/health_service_pb.ts";
import { SeededRandom } from "#libs/clock/fake.ts";
import { EMPTY_PRICE_INDEX } from "#libs/money/index.ts";
import { backend, chosen, config, DONE, ended, failed, model, report, request, STARTED, world } from "./fixture.ts";
import { DecayingHistogram } from "./histogram.ts";
import { OutputLengths } from "./lengths.ts";
import { LoadExchange } from "./load-exchange.ts";
import { RateBucket } from "./rate-bucket.ts";
import { compileSnapshot } from "./snapshot.ts";
import { EngineState } from "./state.ts";

test("whatever the order of reports, lost or doubled, everything reserved is given back in the end", async () => {
  const step = fc.record({
    kind: fc.constantFrom("decide", "started", "other", "first", "gap", "ended", "failed", "done", "cancel", "wait"),
    which: fc.nat(5),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 80 }), async (steps) => {
      const names = ["a", "b"];
      const scene = await world(
        config(
          names.map((name) => backend(name, { concurrency: { mode: "fixed", min: 1, max: 2 } })),
          [model("chat", names)],
        ),
      );
      const asked = Array.from({ length: 6 }, () => request("chat"));
      const tickets = new Map<number, () => void>();
      for (const { kind, which } of steps) {
        const id = asked[which]!.decisionId;
        if (kind === "decide") {
          const ticket = scene.session.decide(asked[which]!);
          tickets.set(which, () => ticket.cancel());
          if (ticket.decision instanceof Promise) ticket.decision.catch(() => {});
        } else if (kind === "started") scene.session.report(report(id, "a", STARTED));
        else if (kind === "other") scene.session.report(report(id, "b", STARTED));
        else if (kind === "first")
          scene.session.report(
            report(id, "a", { case: "firstToken", value: { $typeName: "signalbox.policy.v1.AttemptFirstToken", ttftMs: 50 } }),
          );
        else if (kind === "gap")
          scene.session.report(
            report(id, "a", { case: "gap", value: { $typeName: "signalbox.policy.v1.AttemptGap", gapMs: 10, outputTokens: which * 10 } }),
          );
        else if (kind === "ended") scene.session.report(report(id, "a", { case: "ended", value: ended() }));
        else if (kind === "failed") scene.session.report(report(id, "b", { case: "ended", value: failed("UPSTREAM_TIMEOUT") }));
        else if (kind === "done") scene.session.report(report(id, "a", DONE));
        else if (kind === "cancel") tickets.get(which)?.();
        else await scene.clock.advanceAsync(100);
      }
      scene.session.close();
      const fresh = scene.host.openSession("next");
      const record = await scene.host.explain({
        $typeName: "signalbox.policy.v1.ExplainRequest",
        subject: { case: "dryRun", value: request("chat") },
      });
      fresh.close();
      const all =
        record!.decision!.result.case === "allow"
          ? [...record!.decision!.result.value.candidates, ...record!.decision!.excluded]
          : record!.decision!.excluded;
      assert.deepEqual(
        all.map((candidate) => candidate.inFlight),
        [0, 0],
      );
      await scene.host.module.stop();
    }),
    { numRuns: 60 },
  );
});

test("a request whose ingress forgot it is given back after half a minute", async () => {
  const scene = await world(config([backend("a", { concurrency: { mode: "fixed", min: 1, max: 1 } })], [model("chat", ["a"])]));
  scene.now(request("chat"));
  await scene.clock.advanceAsync(29_000);
  const waiting = scene.session.decide(request("chat")).decision;
  assert.ok(waiting instanceof Promise);
  await scene.clock.advanceAsync(2_000);
  assert.deepEqual(chosen(await waiting), ["a"]);
});

test("health news ejects, degrades and revives, and foreign traffic counts only beyond our own peak", async () => {
  const scene = await world(config([backend("a"), backend("b")], [model("chat", ["a", "b"])]));
  await scene.health({ backend: "a", state: HealthState.EJECTED, reason: "agreed", live: true });
  const decision = scene.now(request("chat", { explain: true }));
  assert.deepEqual(chosen(decision), ["b"]);
  assert.match(decision.excluded[0]!.excluded!.detail, /agreed/);
  await scene.health({
    backend: "a",
    state: HealthState.HEALTHY,
    live: true,
    gauges: { running: 5, waiting: 0, scrapedAtMs: scene.clock.now() },
  });
  const after = scene.now(request("chat", { explain: true }));
  assert.equal(chosen(after).length, 2);
  await scene.clock.advanceAsync(15_000);
  await scene.health({ backend: "a", state: HealthState.EJECTED, live: true });
  await scene.clock.advanceAsync(11_000);
  assert.equal(chosen(scene.now(request("chat"))).length, 2, "a monitor that fell silent ejects nobody");
});

test("a backend ejected for its pace is used again where it is the last one: statistics leave nobody without an answer", async () => {
  const scene = await world(config([backend("a"), backend("b")], [model("chat", ["a", "b"]), model("alone", ["a"])]));
  await scene.health({ backend: "a", state: HealthState.EJECTED, reason: "61.7 times slower than its pool", live: true });
  assert.deepEqual(chosen(scene.now(request("chat"))), ["b"]);
  assert.deepEqual(chosen(scene.now(request("alone"))), ["a"]);
  await scene.clock.advanceAsync(250);
  const { candidates } = scene.session.fallback!.models[0]!;
  assert.deepEqual(
    candidates.map(({ backend: name, usable, lastResort }) => [name, usable, lastResort]).find(([name]) => name === "a"),
    ["a", false, true],
    "the fallback says so too",
  );
});

test("a liveness call that failed and works again half-opens the breaker at once", async () => {
  const scene = await world(config([backend("a"), backend("b")], [model("chat", ["a", "b"])]));
  for (let count = 0; count < 5; count++) {
    const asked = request("chat", { exclude: ["b"] });
    scene.now(asked);
    scene.session.report(report(asked.decisionId, "a", { case: "ended", value: failed("UPSTREAM_UNAVAILABLE") }));
    scene.session.report(report(asked.decisionId, "a", DONE));
  }
  const stands = (): string => {
    const asked = request("chat", { explain: true, requestClass: 4 });
    const decision = scene.now(asked);
    scene.session.report(report(asked.decisionId, "a", DONE));
    return chosen(decision).includes("a") ? "in" : "out";
  };
  await scene.health({ backend: "a", live: true });
  assert.equal(stands(), "out", "a call that never failed says nothing");
  await scene.health({ backend: "a", live: false });
  await scene.clock.advanceAsync(1_600);
  await scene.health({ backend: "a", live: true });
  assert.equal(stands(), "in");
});

test("provider headers block until their reset, configured rates refill, and Retry-After holds", () => {
  const bucket = new RateBucket({ rpm: 60, tpm: undefined }, 0);
  const headers = {
    remainingRequests: 1,
    resetRequestsMs: 2_000,
    remainingTokens: -1,
    resetTokensMs: -1,
    limitRequests: -1,
    limitTokens: -1,
  };
  bucket.observe(create(RateLimitStateSchema, headers), 0);
  assert.equal(bucket.waitMs(100, 0), 0);
  bucket.take(100, 0);
  assert.equal(bucket.waitMs(100, 500), 1_500);
  assert.equal(bucket.waitMs(100, 2_000), 0);
  for (let count = 0; count < 61; count++) bucket.take(1, 2_000);
  assert.ok(bucket.waitMs(1, 2_000) > 0);
  assert.equal(bucket.waitMs(1, 5_000), 0);
  bucket.block(7_000, 5_000);
  assert.equal(bucket.waitMs(1, 6_000), 6_000);
});

test("a histogram's quantiles are within an eighth, and old observations fade", () => {
  const histogram = new DecayingHistogram(1_000);
  for (let value = 1; value <= 1_000; value++) histogram.add(value, 0);
  for (const [q, expected] of [
    [0.5, 500],
    [0.9, 900],
  ] as const) {
    assert.ok(Math.abs(histogram.quantile(q) / expected - 1) < 0.13, String(histogram.quantile(q)));
  }
  for (let count = 0; count < 50; count++) histogram.add(10, 10_000);
  assert.ok(histogram.p50 < 13, String(histogram.p50));
  histogram.add(10, 100_000);
  assert.ok(histogram.p90 < 13 && Number.isFinite(histogram.total));
});

test("output lengths follow the finest key that has seen enough", () => {
  const lengths = new OutputLengths();
  assert.equal(lengths.estimate("t", "h", "m").p50, 200);
  for (let count = 0; count < 10; count++) lengths.learn("t", "h", "m", 20, 0);
  for (let count = 0; count < 100; count++) lengths.learn("u", "", "m", 1_000, 0);
  assert.ok(lengths.estimate("t", "h", "m").p50 < 30);
  assert.ok(lengths.estimate("x", "h", "m").p50 < 30);
  assert.ok(lengths.estimate("t", "", "m").p50 > 800);
});

test("engines add up each other's loads, ignore what is old, and forget who falls silent", () => {
  const snapshot = compileSnapshot(config([backend("a")], [model("m", ["a"])]), undefined, EMPTY_PRICE_INDEX);
  const mine = new EngineState(snapshot, 0);
  const theirs = new EngineState(snapshot, 0);
  const here = new LoadExchange("one", 1, mine);
  const there = new LoadExchange("two", 1, theirs);
  theirs.backends[0]!.inFlight = 7;
  theirs.backends[0]!.decodeRatio = 3;
  theirs.backends[0]!.samples = 100;
  const first = there.outgoing(snapshot, 0)!;
  theirs.backends[0]!.inFlight = 9;
  const second = there.outgoing(snapshot, 50)!;
  assert.equal(there.outgoing(snapshot, 100), undefined, "nothing changed");
  here.receive(second, 60);
  here.receive(first, 70);
  here.receive(here.outgoing(snapshot, 70)!, 80);
  here.receive(new Uint8Array([255, 1, 2]), 80);
  here.refresh(100, true);
  assert.equal(mine.backends[0]!.peerInFlight, 9);
  assert.equal(mine.backends[0]!.load, 9);
  assert.equal(mine.backends[0]!.decodeRatio, 3, "a cold engine starts warm");
  assert.equal(mine.loadsStale, false);
  here.refresh(100, false);
  assert.equal(mine.loadsStale, true, "cut off from the others");
  here.refresh(4_060, true);
  assert.equal(mine.backends[0]!.peerInFlight, Math.round(9 * Math.exp(-2)));
  here.refresh(10_100, true);
  assert.equal(mine.backends[0]!.peerInFlight, 0);
  assert.equal(here.peers, 0);
});

test("two engines that hold a breaker open convince a third", () => {
  const snapshot = compileSnapshot(config([backend("a")], [model("m", ["a"])]), undefined, EMPTY_PRICE_INDEX);
  const mine = new EngineState(snapshot, 0);
  const here = new LoadExchange("one", 1, mine);
  for (const name of ["two", "three"]) {
    const state = new EngineState(snapshot, 0);
    for (let count = 0; count < 5; count++) state.backends[0]!.breaker.on({ kind: "failure" }, 0, new SeededRandom(1));
    here.receive(new LoadExchange(name, 1, state).outgoing(snapshot, 10)!, 10);
    here.refresh(10, true);
    assert.equal(mine.backends[0]!.peerBreakersOpen, name === "two" ? 1 : 2);
  }
});
