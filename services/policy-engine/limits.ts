import { prefillShare, PRIOR } from "./predict.ts";
import type { CompiledBackend } from "./snapshot.ts";
import type { BackendState } from "./state.ts";

/**
 * Share of the pace target that the limit aims at. Above one: the limit is the last resort behind a placement that keeps within the
 * target where it can, and requests held back with room left miss their first token for nothing.
 */
const TARGET_SHARE = 1.15;

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
    const aimMs = Math.max(TARGET_SHARE * paceTargetMs, PACE_LONE_FACTOR * state.tpot.quantile(0.1));
    state.limit.step(aimMs, state.inFlight, nowMs);
  }
  const modelled = backend.structural ? modelLimit(backend, state, paceTargetMs, nowMs) : concurrency.max;
  state.limitValue = Math.max(concurrency.min, Math.min(state.limit.value, modelled));
}

/** The most sequences whose predicted pace and memory stay within their targets. */
export function modelLimit(backend: CompiledBackend, state: BackendState, paceTargetMs: number, nowMs: number): number {
  const ratio = (state.decodeRatio * backend.scale) / (1 - prefillShare(backend, state, nowMs));
  const perSequence = PRIOR.decode + PRIOR.kv * state.meanContext;
  const lone = PRIOR.base + perSequence;
  const aim = Math.max((TARGET_SHARE * paceTargetMs) / ratio, PACE_LONE_FACTOR * lone);
  const byPace = Math.floor((aim - PRIOR.base) / perSequence);
  const byMemory =
    state.kvCapacityTokens > 0 ? Math.floor((KV_SHARE * state.kvCapacityTokens) / state.meanContext) : Number.POSITIVE_INFINITY;
  return Math.min(byPace, byMemory);
}
