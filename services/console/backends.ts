import { BreakerState, HealthState, type BackendHealth } from "#gen/signalbox/health/v1/health_service_pb.ts";
import type { BackendConfig } from "#libs/config/model.ts";
import type { ConsoleDeps } from "./deps.ts";

const STATES: Readonly<Record<number, string>> = {
  [HealthState.HEALTHY]: "healthy",
  [HealthState.DEGRADED]: "degraded",
  [HealthState.EJECTED]: "ejected",
  [HealthState.PROBING]: "probing",
};

const BREAKERS: Readonly<Record<number, string>> = {
  [BreakerState.OPEN]: "open",
  [BreakerState.HALF_OPEN]: "half_open",
};

/** One row per backend for `backends ls`: configuration joined with what the health monitor knows. */
export async function backendRows(deps: ConsoleDeps): Promise<Record<string, unknown>[]> {
  const known = new Map<string, BackendHealth>();
  const [snapshot, state] = await Promise.all([
    deps.health?.snapshot().catch(() => undefined),
    deps.control?.state(0n).catch(() => undefined),
  ]);
  for (const backend of snapshot?.backends ?? []) known.set(backend.backend, backend);
  const drained = new Set(state?.drainedBackends);
  return [...deps.config.current.backends.values()].map((backend) => row(backend, known.get(backend.name), drained.has(backend.name)));
}

function row(backend: BackendConfig, health: BackendHealth | undefined, drained: boolean): Record<string, unknown> {
  const state = STATES[health?.state ?? 0] ?? "unknown";
  return {
    name: backend.name,
    provider: backend.provider,
    model: backend.model,
    url: backend.url,
    state: drained ? "draining" : state,
    breaker: BREAKERS[health?.breaker ?? 0] ?? "closed",
    success_rate: health && health.successRate >= 0 ? health.successRate : null,
    attempts: health?.attempts ?? 0,
    ttft_p50_ms: health?.ttftP50Ms || null,
    ttft_p95_ms: health?.ttftP95Ms || null,
    tpot_p50_ms: health?.tpotP50Ms || null,
    queue: health?.gauges?.waiting ?? null,
    in_flight: health?.gauges?.running ?? null,
    limit: backend.concurrency.max,
    drained,
    reason: health?.reason ?? "",
  };
}
