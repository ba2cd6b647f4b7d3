import type { Config } from "#libs/config/model.ts";
import { createConfigSource, defaultBackend, defaultConfig, NO_PRICES, type SwappableConfigSource } from "#libs/config/index.ts";
import type { Counter, Gauge, Histogram, Metrics } from "#libs/telemetry/index.ts";

/** Metrics that can be read back by name. */
export class CountingMetrics implements Metrics {
  readonly values = new Map<string, number>();

  counter(name: string): { with(): Counter } {
    return { with: () => ({ add: (amount = 1) => void this.values.set(name, this.of(name) + amount) }) };
  }

  gauge(name: string): { with(): Gauge } {
    return { with: () => ({ set: (value) => void this.values.set(name, value) }) };
  }

  histogram(): { with(): Histogram } {
    return { with: () => ({ observe: () => {} }) };
  }

  onScrape(): void {}

  of(name: string): number {
    return this.values.get(name) ?? 0;
  }
}

/** A configuration with one rented GPU and one cloud backend of fixed price ($1 and $2 per million tokens). */
export function ledgerConfig(parts: Partial<Config> = {}): SwappableConfigSource {
  const gpu = defaultBackend({ name: "gpu", provider: "vllm", model: "llama", price: { ...NO_PRICES, perHourNano: 3_600_000_000n } });
  const price = { ...NO_PRICES, inputPico: 1_000_000n, outputPico: 2_000_000n };
  const cloud = defaultBackend({ name: "cloud", provider: "openai", model: "gpt-5-mini", price });
  const backends = new Map([gpu, cloud].map((backend) => [backend.name, backend]));
  return createConfigSource(defaultConfig({ backends, ...parts }));
}
