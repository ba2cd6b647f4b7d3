import { SeededRandom, FakeClock } from "#libs/clock/fake.ts";
import { systemClock } from "#libs/clock/index.ts";
import { compilePriceBook } from "#libs/money/index.ts";
import { createMetrics, silentLogger } from "#libs/telemetry/index.ts";
import { backend, book, config, model, request } from "#services/policy-engine/fixture.ts";
import { Core, type Holder } from "#services/policy-engine/core.ts";
import { MemoryRecords } from "#services/policy-engine/records.ts";

/** Prints microseconds per decision: resolve, filter, predict, pick, answer, reservation and record, on one core. */
const ROUNDS = 20_000;

function measure(count: number): number {
  const names = Array.from({ length: count }, (_, index) => `backend-${index}`);
  const backends = names.map((name, index) => backend(name, { provider: index % 2 === 0 ? "vllm" : "openai" }));
  const prices = book(
    Object.fromEntries(names.map((name, index) => [name, index % 2 === 0 ? { rent: 1.9 } : { input: 1 + index / 10, output: 4 }])),
  );
  const clock = new FakeClock();
  const core = new Core({
    config: config(backends, [model("chat", names, { class: "interactive" })]),
    clock,
    random: new SeededRandom(1),
    logger: silentLogger,
    metrics: createMetrics(),
    engineId: "bench",
    records: new MemoryRecords(),
  });
  core.setPrices(compilePriceBook(prices));
  const holder: Holder = { holdings: new Map(), waiters: new Map() };
  let spentMs = 0;
  for (let round = -ROUNDS / 4; round < ROUNDS; round++) {
    const asked = request("chat");
    const startedMs = systemClock.monotonicMs();
    core.decide(holder, asked);
    if (round >= 0) spentMs += systemClock.monotonicMs() - startedMs;
    if (holder.holdings.size >= 32) core.release(holder);
    clock.advance(1);
  }
  return (spentMs * 1_000) / ROUNDS;
}

for (const count of [4, 16, 64]) console.log(`${String(count).padStart(3)} candidates: ${measure(count).toFixed(1)} us a decision`);
