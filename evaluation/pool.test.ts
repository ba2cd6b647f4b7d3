import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "#libs/clock/fake.ts";
import { CLOUDS } from "./cloud.ts";
import { DOWN, ERRORS } from "./faults.ts";
import type { PoolRequest, RequestResult } from "./pool.ts";
import { signalboxReplicas } from "./replicas.ts";
import { ROUTERS, type RouterEntry, routerOf } from "./routers.ts";
import { runOnce, type RunOutcome } from "./run.ts";
import { POOLS, type PoolSpec, type Testbed } from "./testbed.ts";

const POLICY = { ttftSloMs: 1_000, tpotSloMs: 50 };

/** Requests like the Azure conversations', without the trace: no file is needed. */
function madeUp(count: number, ratePerS: number, seed = 1): PoolRequest[] {
  const random = new SeededRandom(seed);
  let atMs = 0;
  return Array.from({ length: count }, (_, id) => {
    atMs += (-Math.log(1 - random.next()) / ratePerS) * 1_000;
    return {
      id,
      atMs,
      inputTokens: 1 + Math.floor(-1_100 * Math.log(1 - random.next())),
      outputTokens: 1 + Math.floor(-200 * Math.log(1 - random.next())),
      blocks: [],
      tenant: "tenant-a",
      class: random.next() < 0.2 ? "batch" : "interactive",
      ttftSloMs: POLICY.ttftSloMs,
      tpotSloMs: POLICY.tpotSloMs,
    };
  });
}

function runOf(
  router: RouterEntry,
  requests: readonly PoolRequest[],
  prepare?: (bed: Testbed) => void,
  pool: PoolSpec = POOLS.heterogeneous,
): Promise<RunOutcome> {
  return runOnce({ pool, router, requests, policy: POLICY, seed: 3, ...(prepare ? { prepare } : {}) });
}

/** One number for all that happened. */
function hashOf(results: readonly RequestResult[]): number {
  let hash = 0x811c9dc5;
  for (const { backend, ttftMs, endToEndMs, attempts } of results) {
    for (const value of [backend, Math.round(ttftMs * 1_000), Math.round(endToEndMs * 1_000), attempts])
      hash = Math.imul(hash ^ value, 0x01000193);
  }
  return hash >>> 0;
}

for (const router of [...ROUTERS, signalboxReplicas(3, 50)]) {
  test(`${router.id} (${router.kind}) answers every request once, and the same seed gives the same run`, async () => {
    const requests = madeUp(250, 20);
    const first = await runOf(router, requests);
    assert.deepEqual(
      first.results.map(({ request }) => request.id),
      requests.map(({ id }) => id),
    );
    for (const { error, ttftMs, endToEndMs, attempts } of first.results) {
      assert.equal(error, "");
      assert.ok(ttftMs > 0 && endToEndMs >= ttftMs && attempts >= 1);
    }
    const sent = first.bed.backends.reduce((sum, backend) => sum + backend.sent, 0);
    assert.equal(
      sent,
      first.results.reduce((sum, { attempts }) => sum + attempts, 0),
    );
    const second = await runOf(router, requests);
    assert.equal(hashOf(second.results), hashOf(first.results));
  });
}

test("a backend that fails everything costs an attempt, not an answer, and is left alone soon", async () => {
  const requests = madeUp(400, 15);
  const { results, bed } = await runOf(routerOf("signalbox"), requests, (bed) => void (bed.backends[0]!.fault = ERRORS));
  assert.deepEqual(
    results.filter(({ error }) => error !== ""),
    [],
  );
  assert.ok(bed.backends[0]!.sent >= 5 && bed.backends[0]!.sent <= 25, `${bed.backends[0]!.sent} requests went to the broken one`);
});

test("with everything down each client gets an error at once, and answers come back when the machines do", async () => {
  const requests = madeUp(400, 10);
  const { results } = await runOf(routerOf("signalbox"), requests, (bed) => {
    bed.clock.after(5_000, () => bed.backends.forEach((backend) => void (backend.fault = DOWN)));
    bed.clock.after(20_000, () => bed.backends.forEach((backend) => void (backend.fault = undefined)));
  });
  const during = results.filter(({ arrivedMs }) => arrivedMs >= 8_000 && arrivedMs < 20_000);
  assert.ok(during.length > 50);
  assert.ok(during.every(({ error, arrivedMs, endedMs }) => error !== "" && endedMs - arrivedMs <= 1_000));
  assert.deepEqual(
    results.filter(({ arrivedMs, error }) => arrivedMs > 30_000 && error !== ""),
    [],
  );
});

test("a cloud behind the machines is paid by the token and only used when they would be late", async () => {
  const pool: PoolSpec = { ...POOLS.small, clouds: [CLOUDS.premium] };
  const calm = await runOf(routerOf("signalbox"), madeUp(300, 5), undefined, pool);
  assert.equal(
    calm.results.reduce((sum, { costUsd }) => sum + costUsd, 0),
    0,
  );
  const crowded = await runOf(routerOf("signalbox"), madeUp(900, 40), undefined, pool);
  const paid = crowded.results.filter(({ costUsd }) => costUsd > 0);
  assert.ok(paid.length > 90, `${paid.length} of 900 went to the cloud`);
  const [{ request, costUsd }] = paid as [RequestResult];
  assert.ok(Math.abs(costUsd - (request.inputTokens * 3 + request.outputTokens * 15) / 1e6) < 1e-12);
});
