import { prefillMsPerToken, PRIOR } from "./predict.ts";
import type { CompiledBackend } from "./snapshot.ts";
import type { BackendState } from "./state.ts";

/**
 * Shares of the pace target that the limit aims at. A peak is let in: a request held back misses its first token, and the placement
 * keeps most of those that run on time. Overload that lasts is held back to what keeps its pace, since otherwise everybody is late.
 */
const PEAK_SHARE = 2;
const OVERLOAD_SHARE = 0.95;

/** How long a backend must have had more than it can do at its pace before that counts as overload, ms: longer than answers take. */
const OVERLOAD_AFTER_MS = 30_000;

/** The overload is over when it has less than this share of what it can do. */
const RELIEVED_SHARE = 0.8;

/** A limit cannot make a backend faster than it is alone: the pace aimed at is never below this many times that. */
export const PACE_LONE_FACTOR = 2;

/** Share of the key-value memory that contexts may fill. */
const KV_SHARE = 0.9;

/** Recomputes the concurrency a backend is held to (routing, section 1.8). To be called four times a second. */
export function refreshLimit(backend: CompiledBackend, state: BackendState, paceTargetMs: number, nowMs: number): void {
  const { concurrency } = backend.config;
  if (concurrency.mode === "fixed") {
    state.limitValue = concurrency.max;
    return;
  }
  if (!backend.structural) {
    const aimMs = Math.max(paceTargetMs, PACE_LONE_FACTOR * state.tpot.quantile(0.1));
    state.limit.step(aimMs, state.inFlight, nowMs);
  }
  const modelled = backend.structural ? peakLimit(backend, state, paceTargetMs, nowMs) : concurrency.max;
  state.limitValue = Math.max(concurrency.min, Math.min(state.limit.value, modelled));
}

/** The limit that holds now: what a peak may take up, or what an overloaded backend can do at its pace. */
function peakLimit(backend: CompiledBackend, state: BackendState, paceTargetMs: number, nowMs: number): number {
  const sustained = sustainedLimit(backend, state, paceTargetMs);
  if (state.load < (state.overloadSinceMs === Number.POSITIVE_INFINITY ? sustained : RELIEVED_SHARE * sustained)) {
    state.overloadSinceMs = Number.POSITIVE_INFINITY;
  } else if (state.overloadSinceMs > nowMs) state.overloadSinceMs = nowMs;
  return nowMs - state.overloadSinceMs >= OVERLOAD_AFTER_MS ? sustained : modelLimit(backend, state, PEAK_SHARE * paceTargetMs);
}

/** What it can do at its pace for as long as one likes. */
export function sustainedLimit(backend: CompiledBackend, state: BackendState, paceTargetMs: number): number {
  return modelLimit(backend, state, OVERLOAD_SHARE * paceTargetMs);
}

/**
 * The most sequences whose pace in the long run stays within `aimMs` and whose contexts fit: each takes its share of every
 * iteration, and its prompt is computed once per answer, in time that all of them lose.
 */
export function modelLimit(backend: CompiledBackend, state: BackendState, aimMs: number): number {
  const decode = state.decodeRatio * backend.scale;
  const promptMs = (prefillMsPerToken(backend, state) * state.meanUncached) / Math.max(1, state.meanOutput);
  const perSequence = decode * (PRIOR.decode + PRIOR.kv * state.meanContext) + promptMs;
  const lone = decode * PRIOR.base + perSequence;
  const byPace = Math.floor((Math.max(aimMs, PACE_LONE_FACTOR * lone) - decode * PRIOR.base) / perSequence);
  const byMemory =
    state.kvCapacityTokens > 0 ? Math.floor((KV_SHARE * state.kvCapacityTokens) / state.meanContext) : Number.POSITIVE_INFINITY;
  return Math.min(byPace, byMemory);
}
