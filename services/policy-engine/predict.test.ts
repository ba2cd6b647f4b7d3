import assert from "node:assert/strict";
import { test } from "node:test";
import { EMPTY_PRICE_INDEX, compilePriceBook, ratesAt } from "#libs/money/index.ts";
import { type CostEstimate, estimate, gpuSeconds, saturation, shadowNano } from "./cost.ts";
import { backend, book, config, model } from "./fixture.ts";
import { learnCensored, learnGap, learnRefusal, learnTtft, type TtftBasis } from "./learn.ts";
import { modelLimit, refreshLimit } from "./limits.ts";
import { emptyPrediction, gapMs, predict } from "./predict.ts";
import { compileSnapshot, type CompiledBackend } from "./snapshot.ts";
import { type BackendState, EngineState } from "./state.ts";

const REQUEST = { inputTokens: 1_000, outputTokens: 200, watched: true };

function gpu(parts: Parameters<typeof backend>[1] = {}): { compiled: CompiledBackend; state: BackendState } {
  const snapshot = compileSnapshot(
    config([backend("g", { provider: "vllm", ...parts })], [model("m", ["g"])]),
    undefined,
    EMPTY_PRICE_INDEX,
  );
  return { compiled: snapshot.backends[0]!, state: new EngineState(snapshot, 0).backends[0]! };
}

function cloud(): { compiled: CompiledBackend; state: BackendState } {
  return gpu({ provider: "openai" });
}

function near(actual: number, expected: number, what: string): void {
  assert.ok(Math.abs(actual - expected) <= 1e-9 * Math.max(1, Math.abs(expected)), `${what}: ${actual}, not ${expected}`);
}

test("an idle engine is predicted as the structural model says, worked by hand", () => {
  const { compiled, state } = gpu();
  const out = emptyPrediction();
  predict(out, compiled, state, REQUEST, 0, 0);
  const idleGap = 10;
  const nextGap = 10 + 0.07 + 6.5e-5 * 1_000;
  near(out.ttftMs, 0.5 * idleGap + 0.065 * 1_000 + nextGap, "ttft");
  near(out.tpotMs, nextGap, "tpot");
  assert.equal(out.externalityMs, 0);
  near(out.scoreMs, 4 * out.ttftMs + 200 * out.tpotMs, "J of a watched stream");
});

test("a loaded engine adds what is ahead, the prefill rate, memory pressure and what others lose, worked by hand", () => {
  const { compiled, state } = gpu({ paramsB: 16 });
  state.inFlight = 6;
  state.peerInFlight = 4;
  state.prefillTokens = 2_000;
  state.peerPrefillTokens = 1_000;
  state.contextTokens = 20_000;
  state.decodeRatio = 1.5;
  state.prefillRatio = 0.5;
  state.prefillRate = 4_000;
  state.kvCapacityTokens = 44_000;
  const out = emptyPrediction();
  predict(out, compiled, state, { ...REQUEST, watched: false }, 400, 0);
  const decode = 1.5 * 2;
  const prefill = 0.5 * 2 * 0.065;
  const gap = decode * (10 + 0.07 * 10 + 6.5e-5 * 20_000);
  const nextGap = decode * (10 + 0.07 * 11 + 6.5e-5 * 21_000);
  const full = (20_000 + 1_000 + 0.5 * 200 * 10) / 44_000;
  assert.equal(full, 0.5);
  near(out.ttftMs, 0.5 * gap + prefill * (3_000 + 600) + nextGap + 150, "ttft");
  near(out.tpotMs, nextGap / (1 - (prefill * 4_000) / 1_000), "tpot");
  near(out.externalityMs, 10 * (200 * decode * 0.07 + 600 * prefill), "externality");
  near(out.scoreMs, out.ttftMs + 200 * out.tpotMs + out.externalityMs - 10 * prefill * 400, "J");
});

test("an opaque backend is predicted from what it showed for prompts of that size", () => {
  const { compiled, state } = cloud();
  const out = emptyPrediction();
  predict(out, compiled, state, REQUEST, 0, 0);
  assert.equal(out.ttftMs, 450);
  near(out.gateMs, Math.sqrt(450 * 900), "gate");
  for (let count = 0; count < 100; count++) {
    const basis: TtftBasis = { prefillAhead: 0, uncachedTokens: 1_000, inputTokens: 1_000, load: 0, context: 0, predictedTtftMs: 0 };
    learnTtft(compiled, state, basis, count < 90 ? 200 : 2_000, count);
  }
  predict(out, compiled, state, REQUEST, 0, 100);
  assert.ok(out.ttftMs > 160 && out.ttftMs < 240, String(out.ttftMs));
  predict(out, compiled, state, { ...REQUEST, inputTokens: 100_000 }, 0, 100);
  assert.ok(out.ttftMs < 240, "the nearest size speaks for one never seen");
});

test("gaps move the decode ratio by a twentieth, at most ten times a second, and outliers only when they last", () => {
  const { compiled, state } = gpu();
  learnGap(compiled, state, 20, 1_000);
  near(state.decodeRatio, 1.05, "first");
  learnGap(compiled, state, 20, 1_050);
  near(state.decodeRatio, 1.05, "too soon");
  for (let count = 0; count < 30; count++) learnGap(compiled, state, 10, 2_000 + count * 100);
  const before = state.decodeRatio;
  learnGap(compiled, state, 100, 10_000);
  near(state.decodeRatio, before, "one outlier");
  for (let count = 1; count < 100; count++) learnGap(compiled, state, 100, 10_000 + count * 100);
  assert.ok(state.decodeRatio > 8, `ten times slower for ten seconds: ${state.decodeRatio}`);
});

test("a sixteenfold range of wrong priors is learned away", () => {
  for (const factor of [0.25, 4]) {
    const { compiled, state } = gpu();
    for (let count = 0; count < 120; count++) learnGap(compiled, state, 10 * factor, count * 150);
    assert.ok(Math.abs(state.decodeRatio / factor - 1) < 0.05, `${state.decodeRatio} for ${factor}`);
    near(gapMs(compiled, state, 0, 0), 10 * state.decodeRatio, "gap");
  }
});

test("a request that waits too long for its first token raises the prefill ratio and never lowers it", () => {
  const { compiled, state } = gpu();
  const basis: TtftBasis = { prefillAhead: 0, uncachedTokens: 1_000, inputTokens: 1_000, load: 0, context: 0, predictedTtftMs: 80 };
  learnCensored(compiled, state, basis, 100, 0);
  assert.equal(state.prefillRatio, 1);
  learnCensored(compiled, state, basis, 800, 0);
  near(state.prefillRatio, 1 + 0.03 * (10 - 1), "800 ms over a structural 80");
  state.prefillRatio = 9;
  learnCensored(compiled, state, { ...basis, predictedTtftMs: 10 }, 160, 0);
  assert.equal(state.prefillRatio, 9);
});

test("short prompts teach the fixed part of the first token, long ones the pace of prefill", () => {
  const { compiled, state } = gpu();
  const basis: TtftBasis = { prefillAhead: 0, uncachedTokens: 0, inputTokens: 100, load: 0, context: 0, predictedTtftMs: 20 };
  for (let count = 0; count < 100; count++) learnTtft(compiled, state, basis, 95, count);
  assert.ok(Math.abs(state.fixedMs - 80) < 0.1, String(state.fixedMs));
  assert.equal(state.prefillRatio, 1);
  const out = emptyPrediction();
  predict(out, compiled, state, { ...REQUEST, inputTokens: 0 }, 0, 100);
  assert.ok(Math.abs(out.ttftMs - 95) < 0.5, String(out.ttftMs));
  for (let count = 0; count < 300; count++) learnTtft(compiled, state, { ...basis, uncachedTokens: 10_000 }, 80 + 2 * 665, 100);
  assert.ok(Math.abs(state.prefillRatio - 2) < 0.05, String(state.prefillRatio));
  predict(out, compiled, state, { ...REQUEST, inputTokens: 0 }, 0, 3_600_000);
  assert.ok(out.ttftMs < 16, "an hour without a sample forgets the fixed part");
});

test("a refusal adds at least five seconds to the prediction and fades over ten", () => {
  const { compiled, state } = cloud();
  const out = emptyPrediction();
  learnRefusal(state, 0, 1_000);
  predict(out, compiled, state, REQUEST, 0, 1_000);
  near(out.ttftMs, 450 + 5_000, "at once");
  predict(out, compiled, state, REQUEST, 0, 11_000);
  near(out.ttftMs, 450 + 5_000 / Math.E, "ten seconds later");
});

test("an answer's cost is its tokens at their price, or its share of the rented hour", () => {
  const prices = compilePriceBook(book({ c: { input: 3, output: 15 }, g: { rent: 1.8 } }));
  const snapshot = compileSnapshot(
    config([backend("c"), backend("g", { provider: "vllm" }), backend("none")], [model("m", ["c", "g"])]),
    undefined,
    prices,
  );
  const state = new EngineState(snapshot, 0);
  const cost: CostEstimate = { averageNano: 0, upperNano: 0, unpriced: false, rented: false };
  const input = { uncachedTokens: 1_155, cachedTokens: 0, outputTokens: 211, outputP90: 422 };
  estimate(cost, ratesAt(prices, snapshot.backends[0]!.name, 1, 1_155, "")?.rates, snapshot.backends[0]!, state.backends[0]!, input);
  near(cost.averageNano, 1_155 * 3_000 + 211 * 15_000, "cloud");
  near(cost.upperNano, 1_155 * 3_000 + 422 * 15_000, "cloud at the 90th percentile");
  estimate(cost, ratesAt(prices, snapshot.backends[1]!.name, 1, 1_155, "")?.rates, snapshot.backends[1]!, state.backends[1]!, input);
  const seconds = (1_155 * 0.065 + 211 * (10 + 0.07)) / 1_000;
  near(gpuSeconds(snapshot.backends[1]!, state.backends[1]!, 1_155, 211), seconds, "gpu seconds alone");
  near(cost.averageNano, seconds * 500_000, "$1.80 an hour is 500,000 nano a second");
  assert.equal(cost.rented, true);
  estimate(cost, ratesAt(prices, snapshot.backends[2]!.name, 1, 1_155, "")?.rates, snapshot.backends[2]!, state.backends[2]!, input);
  assert.equal(cost.unpriced, true);
});

test("owned capacity is free while there is room and as dear as the cheapest cloud when there is none", () => {
  near(shadowNano(1_000, 0.9), 500, "at the knee");
  assert.ok(shadowNano(1_000, 0.5) < 0.1);
  assert.ok(shadowNano(1_000, 1.2) > 999);
  const { state } = gpu();
  state.inFlight = 8;
  state.limitValue = 16;
  const prediction = { ...emptyPrediction(), ttftMs: 300, tpotMs: 20 };
  near(saturation(state, prediction, 1_000, 50), 0.5, "concurrency is tightest");
  near(saturation(state, { ...prediction, tpotMs: 45 }, 1_000, 50), 0.9, "pace is tightest");
});

test("the modelled limit is the most sequences whose pace and memory stay within their targets", () => {
  const { compiled, state } = gpu();
  const prompt = (0.065 * 1_000) / 200;
  assert.equal(modelLimit(compiled, state, 50), Math.floor((50 - 10) / (0.07 + 0.065 + prompt)));
  state.kvCapacityTokens = 50_000;
  assert.equal(modelLimit(compiled, state, 50), 45);
  state.kvCapacityTokens = 0;
  state.decodeRatio = 8;
  assert.ok(modelLimit(compiled, state, 50) >= 50, "a backend slow when alone is not throttled for it");
  refreshLimit(compiled, state, 50, 0);
  assert.ok(state.limitValue >= 1 && state.limitValue <= compiled.config.concurrency.max);
});

test("a peak is let in beyond the pace; overload that lasts half a minute is held to it until it is relieved", () => {
  const { compiled, state } = gpu();
  const sustained = modelLimit(compiled, state, 0.95 * 50);
  const limitAt = (load: number, nowMs: number): number => {
    state.inFlight = load;
    refreshLimit(compiled, state, 50, nowMs);
    return state.limitValue;
  };
  const peak = limitAt(sustained + 10, 0);
  assert.ok(peak > 2 * sustained, `${peak} against ${sustained}`);
  assert.equal(limitAt(sustained + 10, 29_999), peak);
  assert.equal(limitAt(sustained + 10, 30_000), sustained);
  assert.equal(limitAt(sustained, 60_000), sustained, "full to what it can do is not relieved");
  assert.equal(limitAt(Math.floor(0.7 * sustained), 61_000), peak);
});

test("a gap seen while prompts of ours are computed says nothing of the decode pace", () => {
  const { compiled, state } = gpu();
  state.prefillTokens = 4_000;
  learnGap(compiled, state, 25, 1_000);
  assert.equal(state.decodeRatio, 1);
  state.prefillTokens = 0;
  learnGap(compiled, state, 25, 2_000);
  assert.ok(state.decodeRatio > 1);
});

test("an opaque backend's times vary by themselves: three times the prediction is no sample yet", () => {
  const { compiled, state } = cloud();
  const basis: TtftBasis = { prefillAhead: 0, uncachedTokens: 100, inputTokens: 100, load: 0, context: 0, predictedTtftMs: 450 };
  learnCensored(compiled, state, basis, 1_350, 0);
  assert.equal(state.biasMs, 0);
  learnCensored(compiled, state, basis, 1_900, 0);
  assert.equal(state.biasMs, 1_900);
});
