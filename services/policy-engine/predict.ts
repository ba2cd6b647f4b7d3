import { INPUT_BUCKETS, inputBucket } from "./input-buckets.ts";
import type { Follow } from "./leaders.ts";
import type { CompiledBackend } from "./snapshot.ts";
import type { BackendState } from "./state.ts";

/** The generic profile all engines start from, ms: an A100 with an 8-billion-parameter model. Wrong priors are learned away. */
export const PRIOR = {
  /** Of one decode iteration. */
  base: 10,
  /** Per sequence in the batch. */
  decode: 0.07,
  /** Per context token resident. */
  kv: 6.5e-5,
  /** Per uncached prompt token. */
  prefill: 0.065,
} as const;

/** What an opaque backend is taken for before it was seen, ms: a cloud provider on an ordinary day. */
const OPAQUE_PRIOR = { ttftMs: 450, ttftP90Ms: 900, tpotMs: 12 } as const;

/** Observations before an input bucket of an opaque backend speaks for itself. */
const BUCKET_BELIEVED = 3;

/** Steepness of the barrier against full key-value memory, ms. */
const KV_BARRIER_MS = 150;
const KV_MAX = 0.995;

/** Share of an iteration that prefill may take in the model: beyond it the formula's pole would rule everything. */
const PREFILL_SHARE_MAX = 0.8;

/** Time constant of the prefill rate, ms. */
export const PREFILL_RATE_TAU_MS = 5_000;

/** Time constant of the bias a refusal leaves, ms. */
export const BIAS_TAU_MS = 10_000;

/** Slow start: the pace of a backend that comes back grows over this long from this share. */
const RAMP_MS = 30_000;
const RAMP_START = 0.1;

/** Weight of a degraded backend: it counts as four times as loaded. */
const DEGRADED_WEIGHT = 0.25;

/** Time to load a model that the engine does not hold, ms. */
const SWAP_MS = 5_000;

/** Weight of the time to first token in J: fourfold where a person watches the stream. */
const TTFT_WEIGHT = 1;
const WATCHED_TTFT_WEIGHT = 4;

/**
 * Requests yet to come that gain from a prefix being held in one place rather than computed again in a second: what its prefill
 * saves counts as often once more, beside what it saves this request and those it runs with.
 */
const PREFIX_WORTH = 10;

/** Scores stay positive: ties are shares of them. */
const SCORE_MIN_MS = 0.5;

/** What a prediction needs of the request. */
export interface PredictInput {
  /** Estimated prompt tokens. */
  inputTokens: number;
  /** Expected output tokens. */
  outputTokens: number;
  /** Whether a person watches the stream: time to first token then weighs fourfold. */
  watched: boolean;
}

/** A prediction, written into one object that is used again and again. All in ms but `uncachedTokens`. */
export interface Prediction {
  ttftMs: number;
  /** What feasibility is judged by: the same for engines, about the 78th percentile for opaque backends. */
  gateMs: number;
  ttftP90Ms: number;
  tpotMs: number;
  externalityMs: number;
  swapMs: number;
  biasMs: number;
  /** Wait for another request to compute the beginning of the prompt. */
  leaderMs: number;
  scoreMs: number;
  uncachedTokens: number;
}

/** An empty prediction to write into. */
export function emptyPrediction(): Prediction {
  return {
    ttftMs: 0,
    gateMs: 0,
    ttftP90Ms: 0,
    tpotMs: 0,
    externalityMs: 0,
    swapMs: 0,
    biasMs: 0,
    leaderMs: 0,
    scoreMs: 0,
    uncachedTokens: 0,
  };
}

/** Ms per decode iteration of `n` sequences over `context` tokens (routing, section 1.2). */
export function gapMs(backend: CompiledBackend, state: BackendState, n: number, context: number): number {
  return state.decodeRatio * backend.scale * (PRIOR.base + PRIOR.decode * n + PRIOR.kv * context);
}

/** Sequences as the model counts them: inflated while a backend ramps up or is degraded, so that it gets less. */
export function effectiveLoad(state: BackendState, nowMs: number): number {
  const weight = rampOf(state, nowMs) * (state.degraded ? DEGRADED_WEIGHT : 1);
  return weight === 1 ? state.load : (state.load + 1) / weight - 1;
}

/** Share of its pace that a backend coming back is given: a tenth at first, all after half a minute. */
export function rampOf(state: BackendState, nowMs: number): number {
  const age = nowMs - state.rampSinceMs;
  return age >= RAMP_MS ? 1 : RAMP_START + (1 - RAMP_START) * Math.max(0, age / RAMP_MS);
}

/** How long the fixed part of a time to first token is believed without another sample, ms. */
const FIXED_TAU_MS = 60_000;

/** The fixed part of the time to first token: network, parsing, the engine's own queue. Fades, so that a bad minute is forgotten. */
export function fixedOf(state: BackendState, nowMs: number): number {
  return faded(state.fixedMs, state.fixedAtMs, nowMs, FIXED_TAU_MS);
}

/** Value of an exponentially fading quantity. */
export function faded(value: number, sinceMs: number, nowMs: number, tauMs: number): number {
  return value === 0 ? 0 : value * Math.exp((sinceMs - nowMs) / tauMs);
}

/**
 * Predicts one request on one backend into `out` (routing, section 1.2): time to first token, time per output token, what it costs
 * the others there, and the placement score J. `cachedTokens` of the prompt are taken to be in the backend's prefix cache, once
 * the one it may `follow` has computed them.
 */
export function predict(
  out: Prediction,
  backend: CompiledBackend,
  state: BackendState,
  input: PredictInput,
  cachedTokens: number,
  nowMs: number,
  follow?: Follow,
): void {
  const uncached = Math.max(0, input.inputTokens - cachedTokens);
  out.uncachedTokens = uncached;
  out.biasMs = faded(state.biasMs, state.biasAtMs, nowMs, BIAS_TAU_MS);
  out.swapMs = state.modelLoaded ? 0 : SWAP_MS;
  if (backend.structural) predictEngine(out, backend, state, input, uncached, nowMs, follow);
  else predictOpaque(out, state, input);
  out.leaderMs = follow?.waitMs ?? 0;
  const added = out.biasMs + out.swapMs + out.leaderMs;
  out.ttftMs += added;
  out.gateMs += added;
  out.ttftP90Ms += added;
  const weight = input.watched ? WATCHED_TTFT_WEIGHT : TTFT_WEIGHT;
  out.scoreMs = weight * out.ttftMs + input.outputTokens * out.tpotMs + out.externalityMs;
  if (backend.structural && cachedTokens > 0) {
    const savedMs = prefillMsPerToken(backend, state) * Math.min(cachedTokens, input.inputTokens);
    out.scoreMs = Math.max(SCORE_MIN_MS, out.scoreMs - PREFIX_WORTH * savedMs);
  }
}

/** Ms that an engine takes to compute a prompt token. */
export function prefillMsPerToken(backend: CompiledBackend, state: BackendState): number {
  return state.prefillRatio * backend.scale * PRIOR.prefill;
}

function predictEngine(
  out: Prediction,
  backend: CompiledBackend,
  state: BackendState,
  input: PredictInput,
  uncached: number,
  nowMs: number,
  follow: Follow | undefined,
): void {
  const n = effectiveLoad(state, nowMs);
  const context = state.contextTokens + state.peerContextTokens;
  const prefillMs = prefillMsPerToken(backend, state);
  const nextGapMs = gapMs(backend, state, n + 1, context + input.inputTokens);
  let barrierMs = 0;
  if (state.kvCapacityTokens > 0) {
    const full = Math.min(KV_MAX, (context + input.inputTokens + 0.5 * state.meanOutput * n) / state.kvCapacityTokens);
    barrierMs = (KV_BARRIER_MS * full) / (1 - full);
  }
  // What the leader computes is in the wait for it.
  const ahead = Math.max(0, state.prefillTokens + state.peerPrefillTokens - (follow?.leader.prefillTokens ?? 0));
  out.ttftMs = fixedOf(state, nowMs) + 0.5 * gapMs(backend, state, n, context) + prefillMs * (ahead + uncached) + nextGapMs + barrierMs;
  out.tpotMs = nextGapMs / (1 - prefillShare(backend, state, nowMs));
  out.gateMs = out.ttftMs;
  out.ttftP90Ms = out.ttftMs * state.ttftSpread;
  const perToken = state.decodeRatio * backend.scale * PRIOR.decode;
  out.externalityMs = n * (Math.min(input.outputTokens, state.meanOutput) * perToken + uncached * prefillMs);
}

/** Share of the engine's time that prefill takes at the present rate of prompts. */
export function prefillShare(backend: CompiledBackend, state: BackendState, nowMs: number): number {
  const rate = faded(state.prefillRate, state.prefillRateAtMs, nowMs, PREFILL_RATE_TAU_MS);
  return Math.min(PREFILL_SHARE_MAX, (prefillMsPerToken(backend, state) * rate) / 1_000);
}

function predictOpaque(out: Prediction, state: BackendState, input: PredictInput): void {
  const ttft = ttftSketch(state, input.inputTokens);
  out.ttftMs = ttft === undefined ? OPAQUE_PRIOR.ttftMs : ttft.p60;
  out.ttftP90Ms = ttft === undefined ? OPAQUE_PRIOR.ttftP90Ms : ttft.p90;
  out.tpotMs = state.tpot.total >= BUCKET_BELIEVED ? state.tpot.p60 : OPAQUE_PRIOR.tpotMs;
  if (state.degraded) {
    out.ttftMs /= DEGRADED_WEIGHT;
    out.ttftP90Ms /= DEGRADED_WEIGHT;
  }
  // Between the 60th and the 90th percentile: the 90th of an ordinary cloud misses a target of a second on every slow minute.
  out.gateMs = Math.sqrt(out.ttftMs * out.ttftP90Ms);
  out.externalityMs = 0;
}

/** The bucket of this prompt, or the nearest one that has seen enough. */
function ttftSketch(state: BackendState, inputTokens: number): BackendState["ttft"][number] | undefined {
  if (state.samples === 0) return undefined;
  const own = inputBucket(inputTokens);
  for (let distance = 0; distance < INPUT_BUCKETS.length; distance++) {
    const below = state.ttft[own - distance];
    if (below !== undefined && below.total >= BUCKET_BELIEVED) return below;
    const above = state.ttft[own + distance];
    if (above !== undefined && above.total >= BUCKET_BELIEVED) return above;
  }
  return undefined;
}
