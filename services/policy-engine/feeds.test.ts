import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { type ControlState, ControlStateSchema } from "#gen/signalbox/control/v1/control_service_pb.ts";
import type { PriceBook } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { createMemoryBus } from "#libs/bus/index.ts";
import { FakeClock, SeededRandom } from "#libs/clock/fake.ts";
import { createConfigSource } from "#libs/config/index.ts";
import type { ControlPeer, LedgerPeer } from "#libs/peers/index.ts";
import { createMetrics, silentLogger } from "#libs/telemetry/index.ts";
import { backend, book, config, model } from "./fixture.ts";
import { createPolicyEngine, type PolicyEngineHost } from "./module.ts";

const noNews = (): Promise<undefined> => Promise.resolve(undefined);

function engineWith(clock: FakeClock, priceBook: () => Promise<PriceBook>, report: ControlPeer["report"] = noNews): PolicyEngineHost {
  return createPolicyEngine({
    config: createConfigSource(config([backend("a")], [model("m", ["a"])])),
    clock,
    random: new SeededRandom(1),
    logger: silentLogger,
    metrics: createMetrics(),
    bus: createMemoryBus({ clock, logger: silentLogger }),
    ledger: { priceBook } as LedgerPeer,
    control: { report } as ControlPeer,
    engineId: "engine-1",
  });
}

function stateOf({ module }: PolicyEngineHost, check: string): string | undefined {
  return module.checks.find(({ name }) => name === check)?.status().state;
}

function pricesState(host: PolicyEngineHost): string | undefined {
  return stateOf(host, "price-book");
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

test("fault: an engine that knew no drains yet said it was ready, and sent requests to what was drained for two seconds", async () => {
  const clock = new FakeClock();
  let isThere = false;
  const report = (): Promise<ControlState | undefined> =>
    isThere ? Promise.resolve(create(ControlStateSchema, { revision: 3n, drainedBackends: ["a"] })) : Promise.reject(new Error("refused"));
  const host = engineWith(clock, () => Promise.resolve(book({})), report);
  await host.module.start();
  assert.equal(stateOf(host, "control-state"), "failed");
  isThere = true;
  await clock.advanceAsync(250);
  assert.equal(stateOf(host, "control-state"), "ok");
  await host.module.stop();
});

test("an engine that is told that there is no control state yet is ready", async () => {
  const host = engineWith(new FakeClock(), () => Promise.resolve(book({})));
  await host.module.start();
  assert.equal(stateOf(host, "control-state"), "ok");
  await host.module.stop();
});
