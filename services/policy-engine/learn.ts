import { inputBucket } from "./input-buckets.ts";
import { BIAS_TAU_MS, faded, fixedOf, gapMs, PREFILL_RATE_TAU_MS, PRIOR } from "./predict.ts";
import type { CompiledBackend } from "./snapshot.ts";
import type { BackendState } from "./state.ts";

/** Learning rates of the two ratios and of the fixed part of a time to first token. */
const DECODE_RATE = 0.05;
const PREFILL_RATE = 0.03;
const FIXED_RATE = 0.1;
const RATIO_MIN = 0.1;
const RATIO_MAX = 10;

/** Prefill that would take no longer than this at the prior's pace says nothing about the pace, ms: some 500 tokens. */
const LITTLE_PREFILL_MS = 35;

/** Bound of the fixed part, ms. */
const FIXED_MAX_MS = 2_000;

/** Gap samples of one backend are taken at most this often, ms: a busy backend must not learn faster than it changes. */
const GAP_SAMPLE_INTERVAL_MS = 100;

/** A gap this many times the current one is prefill of a neighbour or the network, not the pace. */
const GAP_OUTLIER = 3;

/** A request without a first token older than this many predictions is a sample already. */
const CENSORED_FACTOR = 1.5;

/** The same for an opaque backend, whose times to first token vary by themselves: one in a hundred is three times the median. */
const CENSORED_OPAQUE_FACTOR = 4;

/** Observations beyond which more do not make a backend better known. */
const SAMPLES_MAX = 1_000;

/** Observations before a backend counts as known. */
export const KNOWN_SAMPLES = 20;

/** How long that lasts without another observation, ms. */
const KNOWN_FOR_MS = 60_000;

/** Step of the running 90th percentile, as a share of its value. */
const SPREAD_STEP = 0.02;
const SPREAD_MIN = 1;
const SPREAD_MAX = 10;

/** Artificial time to first token of a refusal, ms, and its bound. */
const BIAS_MS = 5_000;
const BIAS_MAX_MS = 300_000;

/** Weight of a new answer in the running means. */
const MEAN_WEIGHT = 0.05;

function clampRatio(ratio: number): number {
  return Math.min(RATIO_MAX, Math.max(RATIO_MIN, ratio));
}

function count(state: BackendState, nowMs: number): void {
  if (state.samples < SAMPLES_MAX) state.samples += 1;
  state.learnedAtMs = nowMs;
}

/** Whether enough was observed, and lately: what was true a minute ago of a backend nobody uses is no knowledge. */
export function isKnown(state: BackendState, nowMs: number): boolean {
  return state.samples >= KNOWN_SAMPLES && nowMs - state.learnedAtMs < KNOWN_FOR_MS;
}

/** If every gap looks like an outlier for this long, the backend has become slow and the gaps are its pace, ms. */
const OUTLIERS_BELIEVED_AFTER_MS = 1_000;

/** A gap per output token was seen, on a stream or averaged over a whole answer. */
export function learnGap(backend: CompiledBackend, state: BackendState, observedMs: number, nowMs: number): void {
  if (!(observedMs > 0) || nowMs - state.gapLearnedAtMs < GAP_SAMPLE_INTERVAL_MS) return;
  // While prompts of ours are computed a gap holds their prefill, which the prediction counts by itself.
  if (backend.structural && state.prefillTokens + state.peerPrefillTokens === 0) {
    const currentMs = gapMs(backend, state, state.load, state.contextTokens + state.peerContextTokens);
    if (isOutlier(state, observedMs, currentMs, nowMs)) return;
    const structMs = currentMs / state.decodeRatio;
    state.decodeRatio += DECODE_RATE * (clampRatio(observedMs / structMs) - state.decodeRatio);
  }
  state.tpot.add(observedMs, nowMs);
  state.limit.onGap(observedMs);
  state.gapLearnedAtMs = nowMs;
  count(state, nowMs);
}

function isOutlier(state: BackendState, observedMs: number, currentMs: number, nowMs: number): boolean {
  if (observedMs <= GAP_OUTLIER * currentMs || state.samples < KNOWN_SAMPLES) {
    state.gapOutliersSinceMs = Number.POSITIVE_INFINITY;
    return false;
  }
  if (state.gapOutliersSinceMs > nowMs) state.gapOutliersSinceMs = nowMs;
  return nowMs - state.gapOutliersSinceMs < OUTLIERS_BELIEVED_AFTER_MS;
}

/** What was ahead of a request when it was dispatched. */
export interface TtftBasis {
  /** Uncached prompt tokens ahead of it, and its own. */
  readonly prefillAhead: number;
  readonly uncachedTokens: number;
  readonly inputTokens: number;
  /** Sequences and context at the backend. */
  readonly load: number;
  readonly context: number;
  readonly predictedTtftMs: number;
}

/** A stream's first content arrived after `observedMs`. */
export function learnTtft(backend: CompiledBackend, state: BackendState, basis: TtftBasis, observedMs: number, nowMs: number): void {
  state.ttft[inputBucket(basis.inputTokens)]!.add(observedMs, nowMs);
  if (basis.predictedTtftMs > 0) {
    const ratio = observedMs / basis.predictedTtftMs;
    const step = SPREAD_STEP * state.ttftSpread * (ratio > state.ttftSpread ? 9 : -1);
    state.ttftSpread = Math.min(SPREAD_MAX, Math.max(SPREAD_MIN, state.ttftSpread + step));
  }
  if (backend.structural) learnFirst(backend, state, basis, observedMs, nowMs, true);
  count(state, nowMs);
}

/**
 * A request has waited `ageMs` without a first token. Waiting for it to arrive would leave the engine blind to a backend that
 * stands still, so its age counts as a sample where that makes the backend look slower (routing, section 1.2).
 */
export function learnCensored(backend: CompiledBackend, state: BackendState, basis: TtftBasis, ageMs: number, nowMs: number): void {
  if (ageMs <= (backend.structural ? CENSORED_FACTOR : CENSORED_OPAQUE_FACTOR) * basis.predictedTtftMs) return;
  if (!backend.structural) {
    addBias(state, Math.min(ageMs, BIAS_MS), nowMs);
    return;
  }
  learnFirst(backend, state, basis, ageMs, nowMs, false);
}

/**
 * A time to first token is a fixed part (network, parsing, scheduling) and the prefill. Prompts with little to prefill teach the
 * fixed part, the others the prefill's pace: each sample moves the term that made it. `both`: it may move it down as well as up.
 */
function learnFirst(
  backend: CompiledBackend,
  state: BackendState,
  basis: TtftBasis,
  observedMs: number,
  nowMs: number,
  both: boolean,
): void {
  const prefillMs = backend.scale * PRIOR.prefill * (basis.prefillAhead + basis.uncachedTokens);
  const gapsMs = 1.5 * gapMs(backend, state, basis.load, basis.context);
  const fixedMs = fixedOf(state, nowMs);
  if (prefillMs <= LITTLE_PREFILL_MS) {
    const sample = Math.min(FIXED_MAX_MS, Math.max(0, observedMs - gapsMs - state.prefillRatio * prefillMs));
    if (!both && sample <= fixedMs) return;
    state.fixedMs = fixedMs + FIXED_RATE * (sample - fixedMs);
    state.fixedAtMs = nowMs;
    return;
  }
  const ratio = clampRatio((observedMs - fixedMs) / (prefillMs + gapsMs));
  if (both || ratio > state.prefillRatio) state.prefillRatio += PREFILL_RATE * (ratio - state.prefillRatio);
}

/** The backend refused for load: an artificial sample of at least five seconds in a fading peak. */
export function learnRefusal(state: BackendState, retryAfterMs: number, nowMs: number): void {
  addBias(state, Math.min(BIAS_MAX_MS, Math.max(BIAS_MS, retryAfterMs)), nowMs);
}

function addBias(state: BackendState, biasMs: number, nowMs: number): void {
  state.biasMs = Math.max(biasMs, faded(state.biasMs, state.biasAtMs, nowMs, BIAS_TAU_MS));
  state.biasAtMs = nowMs;
}

/** A request's uncached prompt goes to the backend. */
export function learnDispatch(state: BackendState, uncachedTokens: number, inputTokens: number, nowMs: number): void {
  const rate = faded(state.prefillRate, state.prefillRateAtMs, nowMs, PREFILL_RATE_TAU_MS);
  state.prefillRate = rate + uncachedTokens / (PREFILL_RATE_TAU_MS / 1_000);
  state.prefillRateAtMs = nowMs;
  state.meanUncached += MEAN_WEIGHT * (uncachedTokens - state.meanUncached);
  state.meanContext += MEAN_WEIGHT * (inputTokens + state.meanOutput / 2 - state.meanContext);
}

/** An answer of `outputTokens` ended. */
export function learnOutput(state: BackendState, outputTokens: number): void {
  if (outputTokens > 0) state.meanOutput += MEAN_WEIGHT * (outputTokens - state.meanOutput);
}
