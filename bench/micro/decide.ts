import { LiveMap } from "#libs/live/index.ts";
import { SeededRandom, FakeClock } from "#libs/clock/fake.ts";
import { compilePriceBook } from "#libs/money/index.ts";
import { createMetrics, silentLogger } from "#libs/telemetry/index.ts";
import { backend, book, config, model, request } from "#services/policy-engine/fixture.ts";
import { LiveEngine, type Holder } from "#services/policy-engine/live-engine.ts";
import { MemoryRecords } from "#services/policy-engine/records.ts";

/**
 * Prints microseconds of processor time per decision, everything included: resolve, filter, predict, pick, answer, reservation,
 * record, release and the garbage of all that. Twice: settled, and of the first thousand rounds behind a short warm-up. In those V8's
 * own threads still compile the largest functions for the last time (`--trace-opt` shows it), which a process does once and not for
 * every decision.
 */
const ROUNDS = 1_000;

/** Rounds before anything is measured, and before the second measurement: hardly anything is compiled behind them. */
const WARM_UP = ROUNDS / 4;
const SETTLING = 2 * ROUNDS;

/** Decisions in flight at once. */
const BATCH = 16;

function measure(count: number): { readonly settled: number; readonly early: number } {
  const names = Array.from({ length: count }, (_, index) => `backend-${index}`);
  const backends = names.map((name, index) => backend(name, { provider: index % 2 === 0 ? "vllm" : "openai" }));
  const prices = book(
    Object.fromEntries(names.map((name, index) => [name, index % 2 === 0 ? { rent: 1.9 } : { input: 1 + index / 10, output: 4 }])),
  );
  const clock = new FakeClock();
  const engine = new LiveEngine({
    config: config(backends, [model("chat", names, { class: "interactive" })]),
    clock,
    random: new SeededRandom(1),
    logger: silentLogger,
    metrics: createMetrics(),
    engineId: "bench",
    records: new MemoryRecords(),
  });
  engine.setPrices(compilePriceBook(prices));
  const holder: Holder = { holdings: new LiveMap(), waiters: new LiveMap(), followers: new LiveMap(), preempt: () => false };
  const asked = Array.from({ length: BATCH }, () => request("chat"));
  const run = (rounds: number): void => {
    for (let round = 0; round < rounds; round++) {
      for (let index = 0; index < BATCH; index++) engine.decide(holder, asked[index]!);
      engine.release(holder);
      clock.advance(1);
    }
  };
  const timed = (): number => {
    const before = process.cpuUsage().user;
    run(ROUNDS);
    return (process.cpuUsage().user - before) / (ROUNDS * BATCH);
  };
  run(WARM_UP);
  const early = timed();
  run(SETTLING);
  return { settled: timed(), early };
}

for (const count of [4, 16, 64]) {
  const { settled, early } = measure(count);
  console.log(`${String(count).padStart(3)} candidates: ${settled.toFixed(1)} us a decision (${early.toFixed(1)} while V8 still compiles)`);
}
