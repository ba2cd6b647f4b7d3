import { type BackendHealth, BreakerState, type HealthSnapshot, HealthState } from "#gen/signalbox/health/v1/health_service_pb.ts";
import type { BackendState, EngineState } from "./state.ts";

/** A liveness call that fails for this long and then works says that the backend is back, ms: longer than a monitor's first call takes. */
const DOWN_AT_LEAST_MS = 1_500;

/** Gauges older than this are no news, ms. */
const GAUGES_STALE_MS = 2_000;

/** What a health snapshot changed. */
export interface HealthNews {
  /** Backends whose liveness came back while their breaker is open. */
  readonly revived: readonly BackendState[];
  /** Whether anything changed that fallbacks show. */
  readonly changed: boolean;
}

/** Takes a health snapshot into the state. The wall clock dates the gauges, the monotonic one everything else. */
export function applyHealth(state: EngineState, snapshot: HealthSnapshot, nowMs: number, wallMs: number): HealthNews {
  const revived: BackendState[] = [];
  let changed = false;
  for (const health of snapshot.backends) {
    const backend = state.byName(health.backend);
    if (backend === undefined) continue;
    if (cameBack(backend, health, nowMs)) revived.push(backend);
    changed = applyState(backend, health, nowMs) || changed;
    applyGauges(backend, health, nowMs, wallMs);
  }
  return { revived, changed };
}

function applyState(backend: BackendState, health: BackendHealth, nowMs: number): boolean {
  const ejected = health.state === HealthState.EJECTED;
  const changed = ejected !== backend.ejected;
  backend.ejected = ejected;
  backend.ejectedAlive = ejected && health.breaker !== BreakerState.OPEN && health.breaker !== BreakerState.HALF_OPEN;
  backend.degraded = health.state === HealthState.DEGRADED;
  backend.healthReason = health.reason;
  backend.healthAtMs = nowMs;
  backend.modelLoaded = health.loadedModels.length === 0 || health.loadedModels.includes(backend.config.model);
  return changed;
}

function cameBack(backend: BackendState, health: BackendHealth, nowMs: number): boolean {
  if (backend.breaker.state(nowMs).kind !== "open") {
    backend.deadSinceMs = Number.POSITIVE_INFINITY;
    return false;
  }
  if (!health.live) {
    if (backend.deadSinceMs > nowMs) backend.deadSinceMs = nowMs;
    return false;
  }
  const dead = nowMs - backend.deadSinceMs >= DOWN_AT_LEAST_MS;
  backend.deadSinceMs = Number.POSITIVE_INFINITY;
  return dead;
}

/**
 * Traffic of others = what the engine says it has, less what all of us had there. The gauges are older than our own count, so the
 * peak of the time they may stem from is taken: requests of ours that ended since must not look like somebody else's.
 */
function applyGauges(backend: BackendState, health: BackendHealth, nowMs: number, wallMs: number): void {
  const ours = Math.max(backend.inFlightPeak, backend.inFlightPeakBefore) + backend.peerInFlight;
  backend.inFlightPeakBefore = backend.inFlightPeak;
  backend.inFlightPeak = backend.requests;
  const gauges = health.gauges;
  if (gauges === undefined || gauges.scrapedAtMs === 0 || Math.abs(wallMs - gauges.scrapedAtMs) > GAUGES_STALE_MS) return forget(backend);
  backend.scrapedAtMs = nowMs;
  if (gauges.restarts > backend.engineRestarts) backend.prefixes.halve();
  backend.engineRestarts = gauges.restarts;
  backend.engineQueue = Math.round(gauges.waiting);
  backend.kvCapacityTokens = gauges.kvCapacityTokens;
  backend.foreignInFlight = Math.max(0, Math.round(gauges.running + gauges.waiting) - ours);
  // Where memory is known the model limits by it; prompts that wait for the running iteration are no sign of too much.
  if (gauges.kvCapacityTokens === 0 && gauges.waiting > 1) backend.limit.onQueue(nowMs);
}

/** Gauges that stopped coming: own accounting is the truth that is left. */
export function forgetStaleGauges(state: EngineState, nowMs: number): void {
  for (const backend of state.backends) if (nowMs - backend.scrapedAtMs > GAUGES_STALE_MS) forget(backend);
}

function forget(backend: BackendState): void {
  backend.foreignInFlight = 0;
  backend.engineQueue = 0;
}
