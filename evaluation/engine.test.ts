import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock } from "#libs/clock/fake.ts";
import { type EngineProfile, PROFILES } from "./engine-profile.ts";
import { SimulatedEngine } from "./engine.ts";
import { BLOCK_TOKENS } from "./prefix-store.ts";

interface Timing {
  firstMs: number;
  doneMs: number;
  cached: number;
  tokens: number;
}

function submit(
  engine: SimulatedEngine,
  clock: FakeClock,
  inputTokens: number,
  outputTokens: number,
  blocks: number[] = [],
  priority = 0,
): Timing {
  const timing: Timing = { firstMs: 0, doneMs: 0, cached: -1, tokens: 0 };
  engine.submit({
    inputTokens,
    outputTokens,
    blocks,
    priority,
    onFirstToken: (cached) => {
      timing.firstMs = clock.monotonicMs();
      timing.cached = cached;
      timing.tokens = 1;
    },
    onToken: (generated) => void (timing.tokens = generated),
    onDone: () => void (timing.doneMs = clock.monotonicMs()),
  });
  return timing;
}

/** Ms per output token of `count` sequences that decode together, each with a context of `context` tokens at first. */
function decodePace(profile: EngineProfile, count: number, context: number): number {
  const clock = new FakeClock();
  const engine = new SimulatedEngine(profile, clock);
  const atMs: number[] = [];
  for (let sequence = 0; sequence < count; sequence++) {
    const isLast = sequence === count - 1;
    engine.submit({
      inputTokens: context,
      outputTokens: 400,
      blocks: [],
      priority: 0,
      onFirstToken: () => {},
      onToken: (generated) => void (isLast && (atMs[generated] = clock.monotonicMs())),
      onDone: () => {},
    });
  }
  clock.advance(120_000);
  // between its 10th and 110th token everybody decodes: the others are at most a few prefill iterations ahead
  return (atMs[110]! - atMs[10]!) / 100;
}

/** Ms to the first token of a lone prompt. */
function prefillMs(profile: EngineProfile, tokens: number): number {
  const clock = new FakeClock();
  const timing = submit(new SimulatedEngine(profile, clock), clock, tokens, 1);
  clock.advance(60_000);
  return timing.firstMs;
}

function near(actual: number, expected: number, tolerance: number, what: string): void {
  assert.ok(
    Math.abs(actual / expected - 1) <= tolerance,
    `${what}: ${actual.toFixed(2)}, expected ${expected} within ${tolerance * 100} %`,
  );
}

test("iterations take what the linear model says", () => {
  near(prefillMs(PROFILES.h100, 2_048), 7 + 0.033 * 2_048, 1e-9, "prefill on an H100");
  near(prefillMs(PROFILES.l40s, 2_048), 20 + 0.11 * 2_048, 1e-9, "prefill on an L40S");
  near(decodePace(PROFILES.a100, 1, 100), 10 + 0.07 + 6.5e-5 * 160, 0.001, "lone decode on an A100");
});

test("inter-token times of an 8B model lie where llm-d's reference tables have them: H100 10-15, A100 15-25, L40S 25-35 ms", () => {
  for (const [profile, low, high] of [
    [PROFILES.h100, 10, 15],
    [PROFILES.a100, 15, 25],
    [PROFILES.l40s, 25, 35],
  ] as const) {
    const pace = decodePace(profile, 48, 1_024);
    assert.ok(pace >= low && pace <= high, `${profile.name}: ${pace.toFixed(1)} ms`);
  }
});

test("an A100 is as much slower than an H100 as Splitwise measured: prefill 274/137, decode 43/28.4 alone and 71/50 with 64", () => {
  near(prefillMs(PROFILES.a100, 2_048) / prefillMs(PROFILES.h100, 2_048), 274 / 137, 0.1, "prefill of 2,048 tokens");
  near(decodePace(PROFILES.a100, 1, 128) / decodePace(PROFILES.h100, 1, 128), 43 / 28.4, 0.1, "decode alone");
  near(decodePace(PROFILES.a100, 64, 128) / decodePace(PROFILES.h100, 64, 128), 71 / 50, 0.1, "decode of 64");
});

test("a linear profile reproduces Splitwise's H100 with 70B: 2,048 tokens in 137 ms, 28.4 ms per token alone, 50.0 ms with 64", () => {
  const perSequence = (50 - 28.4) / 63;
  const base = 28.4 - perSequence;
  const profile: EngineProfile = { ...PROFILES.h100, baseMs: base, decodeMs: perSequence, kvMs: 0, prefillMs: (137 - base) / 2_048 };
  near(prefillMs(profile, 2_048), 137, 0.01, "prefill");
  near(decodePace(profile, 1, 128), 28.4, 0.01, "decode alone");
  near(decodePace(profile, 64, 128), 50, 0.01, "decode of 64");
});

test("a prompt seen before costs only its last block and what is new", () => {
  const clock = new FakeClock();
  const engine = new SimulatedEngine(PROFILES.a100, clock);
  submit(engine, clock, 4 * BLOCK_TOKENS, 2, [1, 2, 3, 4]);
  clock.advance(10_000);
  const again = submit(engine, clock, 5 * BLOCK_TOKENS, 2, [1, 2, 3, 4, 5]);
  const other = submit(engine, clock, 2 * BLOCK_TOKENS, 2, [9, 2]);
  clock.advance(10_000);
  assert.equal(again.cached, 4 * BLOCK_TOKENS);
  assert.equal(other.cached, 0, "a hit ends at the first miss");
});

test("nothing is lost when the memory overflows: who was preempted is computed again", () => {
  const clock = new FakeClock();
  const engine = new SimulatedEngine({ ...PROFILES.a100, kvCapacity: 2_000 }, clock);
  const timings = Array.from({ length: 6 }, () => submit(engine, clock, 400, 300));
  clock.advance(600_000);
  assert.deepEqual(
    timings.map(({ tokens, doneMs }) => [tokens, doneMs > 0]),
    timings.map(() => [300, true]),
  );
  assert.equal(engine.running + engine.waiting, 0);
  assert.ok(Math.abs(engine.kvUsage) < 1e-9);
});

test("of those that wait the lower priority number goes first", () => {
  const clock = new FakeClock();
  const engine = new SimulatedEngine({ ...PROFILES.a100, maxSequences: 1 }, clock);
  submit(engine, clock, 100, 50);
  clock.advance(1);
  const batch = submit(engine, clock, 100, 50, [], 10);
  const person = submit(engine, clock, 100, 50, [], 1);
  clock.advance(60_000);
  assert.ok(person.firstMs < batch.firstMs);
});

test("a call taken back frees its memory and is never answered", () => {
  const clock = new FakeClock();
  const engine = new SimulatedEngine(PROFILES.a100, clock);
  let answered = false;
  const recall = engine.submit({
    inputTokens: 500,
    outputTokens: 100,
    blocks: [],
    priority: 0,
    onFirstToken: () => {},
    onToken: () => {},
    onDone: () => void (answered = true),
  });
  clock.advance(300);
  recall();
  clock.advance(60_000);
  assert.equal(answered, false);
  assert.equal(engine.kvUsage, 0);
});
