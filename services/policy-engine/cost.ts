import type { Rates } from "#libs/money/index.ts";
import { gapMs, prefillMsPerToken, type Prediction } from "./predict.ts";
import type { CompiledBackend } from "./snapshot.ts";
import type { BackendState } from "./state.ts";

const PICO_PER_NANO = 1_000;
const S_PER_HOUR = 3_600;

/** Where congestion begins to cost what a cloud would, and how sharply (routing, section 1.12). */
const SHADOW_AT = 0.9;
const SHADOW_WIDTH = 0.04;

/** Key-value memory counts as full at this use. */
const KV_FULL = 0.8;

/** What one request costs on one backend, nano-USD as floats. Written into one object that is used again and again. */
export interface CostEstimate {
  /** What accounting will say: tokens at their price, or GPU time at the rent. */
  averageNano: number;
  /** The same for `outputP90` tokens: held against the caller's limit. */
  upperNano: number;
  /** True when the backend has no price. */
  unpriced: boolean;
  /** Rented: owned capacity, whose marginal cost is only the room it takes from others. */
  rented: boolean;
}

/** Tokens a cost is estimated for. */
export interface CostInput {
  readonly uncachedTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
  readonly outputP90: number;
}

/** Expected cost of the request into `out`. `rates`: the backend's, undefined = none. Cached prompt tokens take the cache's price. */
export function estimate(
  out: CostEstimate,
  rates: Rates | undefined,
  backend: CompiledBackend,
  state: BackendState,
  input: CostInput,
): void {
  out.unpriced = rates === undefined;
  out.rented = false;
  out.averageNano = 0;
  out.upperNano = 0;
  if (rates === undefined) return;
  const prompt = Math.max(0, rates.input) * input.uncachedTokens + Math.max(0, rates.cacheRead) * input.cachedTokens;
  const perOutput = Math.max(0, rates.output);
  out.averageNano = (prompt + perOutput * input.outputTokens) / PICO_PER_NANO + rates.perRequestNano;
  out.upperNano = (prompt + perOutput * input.outputP90) / PICO_PER_NANO + rates.perRequestNano;
  if (rates.hourNano <= 0) return;
  const rentNanoPerS = rates.hourNano / S_PER_HOUR;
  out.rented = true;
  out.averageNano += rentNanoPerS * gpuSeconds(backend, state, input.uncachedTokens, input.outputTokens);
  out.upperNano += rentNanoPerS * gpuSeconds(backend, state, input.uncachedTokens, input.outputP90);
}

/** GPU time a request takes: its prefill, and its share of every iteration it is part of. */
export function gpuSeconds(backend: CompiledBackend, state: BackendState, uncachedTokens: number, outputTokens: number): number {
  const n = state.load + 1;
  const prefillMs = prefillMsPerToken(backend, state) * uncachedTokens;
  const decodeMs = (outputTokens * gapMs(backend, state, n, state.contextTokens + state.peerContextTokens)) / n;
  return (prefillMs + decodeMs) / 1_000;
}

/** How full a backend is, 1 = at its knee: the tightest of concurrency, memory and both latency targets (routing, section 1.9). */
export function saturation(state: BackendState, prediction: Prediction, ttftTargetMs: number, tpotTargetMs: number): number {
  const room = state.load / Math.max(1, state.limitValue);
  const kv = state.kvCapacityTokens > 0 ? (state.contextTokens + state.peerContextTokens) / state.kvCapacityTokens / KV_FULL : 0;
  return Math.max(room, kv, prediction.ttftMs / ttftTargetMs, prediction.tpotMs / tpotTargetMs);
}

/**
 * Price of congestion on owned capacity: nothing while there is room, the cheapest cloud's price when there is none. Rent is paid
 * either way and must not drive requests to a cloud past idle GPUs.
 */
export function shadowNano(cheapestCloudNano: number, sat: number): number {
  return cheapestCloudNano / (1 + Math.exp((SHADOW_AT - sat) / SHADOW_WIDTH));
}
