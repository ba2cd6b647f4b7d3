import assert from "node:assert/strict";
import { test } from "node:test";
import type { PriceBook } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { createMemoryBus } from "#libs/bus/index.ts";
import { FakeClock, SeededRandom } from "#libs/clock/fake.ts";
import { createConfigSource } from "#libs/config/index.ts";
import type { ControlPeer, LedgerPeer } from "#libs/peers/index.ts";
import { createMetrics, silentLogger } from "#libs/telemetry/index.ts";
import { backend, book, config, model } from "./fixture.ts";
import { createPolicyEngine, type PolicyEngineHost } from "./module.ts";

function engineWith(clock: FakeClock, priceBook: () => Promise<PriceBook>): PolicyEngineHost {
  return createPolicyEngine({
    config: createConfigSource(config([backend("a")], [model("m", ["a"])])),
    clock,
    random: new SeededRandom(1),
    logger: silentLogger,
    metrics: createMetrics(),
    bus: createMemoryBus({ clock, logger: silentLogger }),
    ledger: { priceBook } as LedgerPeer,
    control: { report: () => Promise.resolve(undefined) } as unknown as ControlPeer,
    engineId: "engine-1",
  });
}

function pricesState({ module }: PolicyEngineHost): string | undefined {
  return module.checks.find(({ name }) => name === "price-book")?.status().state;
}

test("fault: an engine without prices said it was ready, and its first requests did not go to the cheapest", async () => {
  // Its ledger started a moment later; it asked again only after two seconds.
  const clock = new FakeClock();
  let isThere = false;
  const host = engineWith(clock, () => (isThere ? Promise.resolve(book({})) : Promise.reject(new Error("refused"))));
  await host.module.start();
  assert.equal(pricesState(host), "failed");
  isThere = true;
  await clock.advanceAsync(250);
  assert.equal(pricesState(host), "ok");
  await host.module.stop();
});

test("a ledger that stays away keeps an engine unready for ten seconds and no longer", async () => {
  const clock = new FakeClock();
  const host = engineWith(clock, () => Promise.reject(new Error("refused")));
  await host.module.start();
  await clock.advanceAsync(9_900);
  assert.equal(pricesState(host), "failed");
  await clock.advanceAsync(200);
  assert.equal(pricesState(host), "degraded");
  await host.module.stop();
});
