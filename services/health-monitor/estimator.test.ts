import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { AttemptEndSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { isSlow, judge, slownessOf, slowRatio } from "./detectors.ts";
import { Estimator } from "./estimator.ts";
import { endedOf, failedEnd, okEnd } from "./testkit.ts";

const WINDOW_MS = 30_000;

test("the success rate counts failures and 429s, and nothing that is not the backend's doing", () => {
  const estimator = new Estimator(WINDOW_MS);
  assert.equal(estimator.view(0).successRate, -1);
  for (let index = 0; index < 6; index++) estimator.add(endedOf(okEnd()), 0);
  estimator.add(endedOf(failedEnd("UPSTREAM_RATE_LIMITED")), 0);
  estimator.add(endedOf(failedEnd("UPSTREAM_TIMEOUT")), 0);
  estimator.add(endedOf(failedEnd("UPSTREAM_REJECTED")), 0);
  estimator.add(endedOf(failedEnd("UPSTREAM_UNAVAILABLE", { busy: true })), 0);
  for (const outcome of [Outcome.CANCELED, Outcome.HEDGE_LOST, Outcome.DEADLINE])
    estimator.add(endedOf(create(AttemptEndSchema, { outcome })), 0);
  assert.deepEqual([estimator.view(0).attempts, estimator.view(0).successRate], [8, 0.75]);
});

test("attempts leave the window after its length, not before and not all at once", () => {
  const estimator = new Estimator(WINDOW_MS);
  estimator.add(endedOf(failedEnd()), 100);
  estimator.add(endedOf(okEnd()), 20_000);
  assert.equal(estimator.view(26_000).attempts, 2);
  assert.deepEqual([estimator.view(30_500).attempts, estimator.view(30_500).successRate], [1, 1]);
  assert.equal(estimator.view(200_000).attempts, 0);
});

test("quantiles follow the latest samples, and a token rate needs tokens", () => {
  const estimator = new Estimator(WINDOW_MS);
  for (let index = 1; index <= 100; index++) estimator.add(endedOf(okEnd(index * 10, 20)), 1_000);
  estimator.add(endedOf(okEnd(50, 10, 1)), 1_000);
  const view = estimator.view(1_000);
  assert.ok(Math.abs(view.ttftP50Ms - 500) <= 20);
  assert.ok(Math.abs(view.ttftP95Ms - 950) <= 20);
  assert.ok(Math.abs(view.tpotP50Ms - 20) < 1e-9);
  assert.equal(estimator.view(100_000).ttftP50Ms, 0);
});

/** A backend with an hour of history at `usualMs`, then `nowMs` for its latest answers. */
function paced(usualMs: number, latestMs: number, latest = 20): Estimator {
  const estimator = new Estimator(WINDOW_MS);
  for (let index = 0; index < 200; index++) estimator.add(endedOf(okEnd(usualMs)), index * 100);
  for (let index = 0; index < latest; index++) estimator.add(endedOf(okEnd(latestMs)), 60_000 + index * 100);
  return estimator;
}

test("ten times slower than pool and past ejects at once; four times degrades after 15 s; a slow nature does neither", () => {
  const nowMs = 62_000;
  const usual = [paced(100, 100), paced(100, 110), paced(100, 90)].map((one) => one.view(nowMs));
  const gray = paced(100, 1_000).view(nowMs);
  assert.ok(slowRatio(gray, usual) > 8);
  assert.equal(judge(gray, slownessOf(gray, slowRatio(gray, usual), Number.POSITIVE_INFINITY), undefined, nowMs).kind, "eject");
  const slow = paced(100, 400).view(nowMs);
  const slowness = slownessOf(slow, slowRatio(slow, usual), Number.POSITIVE_INFINITY);
  assert.ok(isSlow(slowness));
  assert.equal(judge(slow, slowness, nowMs - 14_000, nowMs).kind, "fine");
  assert.equal(judge(slow, slowness, nowMs - 15_000, nowMs).kind, "degrade");
  const cloud = paced(1_000, 1_000).view(nowMs);
  assert.equal(judge(cloud, slownessOf(cloud, slowRatio(cloud, usual), Number.POSITIVE_INFINITY), 0, nowMs).kind, "fine");
});

test("a load peak that slows the whole pool, and too few samples, accuse nobody", () => {
  const nowMs = 62_000;
  const all = [paced(100, 1_000), paced(100, 1_100), paced(100, 900)].map((one) => one.view(nowMs));
  for (const [index, own] of all.entries()) {
    const others = all.filter((_, other) => other !== index);
    assert.equal(judge(own, slownessOf(own, slowRatio(own, others), Number.POSITIVE_INFINITY), 0, nowMs).kind, "fine");
  }
  const thin = paced(100, 1_000, 3).view(75_000);
  assert.equal(slowRatio(thin, all), 0);
});

test("an incident does not become the new normal", () => {
  const estimator = paced(100, 1_000, 20);
  assert.ok(estimator.view(62_000).selfRatio > 8);
});

test("three stalls within a minute eject; so do empty answers above a fifth of the last thirty", () => {
  const stalls = new Estimator(WINDOW_MS);
  for (const atMs of [0, 20_000, 40_000]) stalls.add(endedOf(failedEnd("UPSTREAM_TIMEOUT", { contentSeen: true })), atMs);
  assert.equal(judge(stalls.view(50_000), 0, undefined, 50_000).kind, "eject");
  assert.equal(judge(stalls.view(61_000), 0, undefined, 61_000).kind, "fine");
  const garbage = new Estimator(WINDOW_MS);
  for (let index = 0; index < 29; index++)
    garbage.add(endedOf(create(AttemptEndSchema, { outcome: Outcome.OK, garbage: index % 3 === 0 })), 0);
  assert.equal(judge(garbage.view(0), 0, undefined, 0).kind, "fine");
  garbage.add(endedOf(okEnd()), 0);
  assert.equal(judge(garbage.view(0), 0, undefined, 0).kind, "eject");
});
