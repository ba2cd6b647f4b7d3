import type { Clock, Random } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import type { AdapterPeer, PolicyPeer } from "#libs/peers/index.ts";
import { RetryBudget } from "#libs/resilience/index.ts";
import type { Logger, Tracing } from "#libs/telemetry/index.ts";
import type { FallbackConstraints } from "./fallback-constraints.ts";
import type { GpuShare } from "./gpu-share.ts";
import type { Money } from "./money.ts";
import type { OutboxPort } from "./outbox-port.ts";
import type { RateWaits } from "./rate-waits.ts";
import type { Recorder } from "./summary.ts";
import type { Witness } from "./decisions.ts";
import type { CollectMemory } from "./experiments/collected.ts";

/** Retry budgets held at once: one per model of the configuration; beyond it models share the last one. */
const BUDGETS_MAX = 1_000;

/** One retry budget per model (decision 17). */
export class RetryBudgets {
  readonly #config: ConfigSource;
  readonly #clock: Clock;
  readonly #budgets = new Map<string, RetryBudget>();
  #retry: ConfigSource["current"]["resilience"]["retry"];

  constructor(config: ConfigSource, clock: Clock) {
    this.#config = config;
    this.#clock = clock;
    this.#retry = config.current.resilience.retry;
  }

  /** The budget of a resolved model. */
  of(model: string): RetryBudget {
    this.#follow();
    const name = this.#budgets.size < BUDGETS_MAX || this.#budgets.has(model) ? model : "";
    let budget = this.#budgets.get(name);
    if (budget === undefined) {
      budget = new RetryBudget({ ratio: this.#retry.budget, minPerS: this.#retry.minPerS }, this.#clock.monotonicMs());
      this.#budgets.set(name, budget);
    }
    return budget;
  }

  /** Puts a new configuration in force for the budgets there are. */
  #follow(): void {
    const { retry } = this.#config.current.resilience;
    if (retry === this.#retry) return;
    this.#retry = retry;
    for (const budget of this.#budgets.values()) budget.configure({ ratio: retry.budget, minPerS: retry.minPerS });
  }
}

/** What dispatch works with. */
export interface DispatchDeps {
  readonly config: ConfigSource;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly tracing: Tracing;
  readonly policy: PolicyPeer;
  readonly adapters: AdapterPeer;
  readonly outbox: OutboxPort;
  readonly money: Money;
  readonly gpuShare: GpuShare;
  readonly budgets: RetryBudgets;
  readonly rateWaits: RateWaits;
  readonly fallbackConstraints: FallbackConstraints;
  readonly recorder: Recorder;
  /** For answers that are collected. */
  readonly collecting: CollectMemory;
  /** Absent where nobody compares. */
  readonly witness?: Witness;
  /** Draws attempt and decision ids (UUIDv7). */
  readonly nextId: () => string;
}
