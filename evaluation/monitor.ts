import { createHealthMonitor, type HealthHost, type ProbeAnswer, type ProbePort } from "#services/health-monitor/index.ts";
import type { EventBus } from "#libs/bus/index.ts";
import type { Clock, Random } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/index.ts";
import { createMetrics, silentLogger } from "#libs/telemetry/index.ts";
import { SimulatedEngine } from "./engine.ts";
import type { PoolBackend, PoolView } from "./pool.ts";

/** Tokens per block in vLLM's metrics. */
const VLLM_BLOCK_TOKENS = 16;

/** What the monitor is built from. */
export interface MonitorParts {
  readonly view: PoolView;
  readonly clock: Clock;
  readonly random: Random;
  readonly config: ConfigSource;
  readonly bus: EventBus;
  /** Whether scrapes get no answer now. */
  readonly scrapesFail: () => boolean;
}

/** The production health monitor over simulated backends: liveness calls and gauges are answered in memory, at once. */
export function simulatedMonitor({ view, scrapesFail, ...parts }: MonitorParts): HealthHost {
  const probe = new SimulatedProbe(view, scrapesFail);
  return createHealthMonitor({ ...parts, logger: silentLogger, metrics: createMetrics(), probe, monitorId: "monitor-1" });
}

class SimulatedProbe implements ProbePort {
  readonly #backends: ReadonlyMap<string, PoolBackend>;
  readonly #scrapesFail: () => boolean;

  constructor(view: PoolView, scrapesFail: () => boolean) {
    this.#backends = new Map(view.backends.map((backend) => [backend.name, backend]));
    this.#scrapesFail = scrapesFail;
  }

  get(url: string): Promise<ProbeAnswer> {
    const { hostname, pathname } = new URL(url);
    const backend = this.#backends.get(hostname);
    if (backend === undefined || backend.fault?.kind === "down") return Promise.reject(new Error("connection refused"));
    if (pathname !== "/metrics") return Promise.resolve({ status: 200, body: "" });
    if (this.#scrapesFail()) return Promise.reject(new Error("no answer in time"));
    return Promise.resolve({ status: 200, body: backend.server instanceof SimulatedEngine ? metricsOf(backend.server) : "" });
  }

  connect(host: string): Promise<void> {
    return this.#backends.get(host)?.fault?.kind === "down" ? Promise.reject(new Error("connection refused")) : Promise.resolve();
  }

  close(): void {}
}

/** An engine's gauges in vLLM's words. */
export function metricsOf(engine: SimulatedEngine): string {
  const blocks = Math.floor(engine.profile.kvCapacity / VLLM_BLOCK_TOKENS);
  return [
    `vllm:num_requests_running{model_name="m",engine="0"} ${engine.running}`,
    `vllm:num_requests_waiting{model_name="m",engine="0"} ${engine.waiting}`,
    `vllm:kv_cache_usage_perc{model_name="m",engine="0"} ${engine.kvUsage}`,
    `vllm:cache_config_info{block_size="${VLLM_BLOCK_TOKENS}",num_gpu_blocks="${blocks}"} 1`,
    "",
  ].join("\n");
}
