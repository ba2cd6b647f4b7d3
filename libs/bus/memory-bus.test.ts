import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock } from "#libs/clock/fake.ts";
import { type Metrics, silentLogger } from "#libs/telemetry/index.ts";
import { busContract } from "./bus.contract.ts";
import { PENDING_MAX_MESSAGES } from "./limits.ts";
import { createMemoryBus } from "./memory-bus.ts";
import { SUBJECTS } from "./subjects.ts";

const clock = new FakeClock();
const shared = createMemoryBus({ clock, logger: silentLogger });

busContract("memory bus", {
  open: () => Promise.resolve(shared),
  settled: () => Promise.resolve(),
  pass: (ms) => clock.advanceAsync(ms),
});

function counting(): { metrics: Metrics; count: () => number } {
  let dropped = 0;
  const counter = { with: () => ({ add: (amount = 1) => void (dropped += amount) }) };
  const metrics = { counter: () => counter, gauge: () => assert.fail(), histogram: () => assert.fail(), onScrape: () => {} };
  return { metrics, count: () => dropped };
}

test("live messages beyond the bound are dropped and counted, the others arrive", async () => {
  const { metrics, count } = counting();
  const bus = createMemoryBus({ clock, logger: silentLogger, metrics });
  let got = 0;
  bus.subscribe("signalbox.flood", () => void got++);
  for (let index = 0; index < PENDING_MAX_MESSAGES + 5; index++) bus.publish("signalbox.flood", new Uint8Array(0));
  await Promise.resolve();
  assert.equal(count(), 5);
  assert.equal(got, PENDING_MAX_MESSAGES);
});

test("a handler that throws does not keep the message from the others", async () => {
  const bus = createMemoryBus({ clock, logger: silentLogger });
  const heard: string[] = [];
  bus.subscribe("a", () => {
    throw new Error("bug");
  });
  bus.subscribe("a", (message) => heard.push(message.subject));
  bus.publish("a", new Uint8Array(0));
  await Promise.resolve();
  assert.deepEqual(heard, ["a"]);
});

test("a batch that keeps failing waits longer each time and keeps the order behind it", async () => {
  const time = new FakeClock();
  const bus = createMemoryBus({ clock: time, logger: silentLogger });
  const calls: string[] = [];
  let healthy = false;
  bus.consume(SUBJECTS.entryRecorded, "ledger", async (batch) => {
    calls.push(`${time.monotonicMs()}:${batch.map((message) => message.payload[0]).join(",")}`);
    if (!healthy) throw new Error("away");
  });
  await bus.publishDurable(SUBJECTS.entryRecorded, Uint8Array.of(1), "1");
  await time.advanceAsync(0);
  await bus.publishDurable(SUBJECTS.entryRecorded, Uint8Array.of(2), "2");
  await time.advanceAsync(3_100);
  healthy = true;
  await time.advanceAsync(10_000);
  assert.deepEqual(calls, ["0:1", "1000:1,2", "3000:1,2", "7000:1,2"]);
});
