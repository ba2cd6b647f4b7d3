import type { Counter, Histogram, Metrics } from "#libs/telemetry/index.ts";
import type { Decision } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { CLASSES, type Scheduler } from "./scheduler.ts";
import type { EngineState } from "./state.ts";

/** Microseconds: a decision is meant to take less than thirty. */
const DECIDE_BUCKETS_US = [5, 10, 20, 30, 50, 100, 200, 500, 1_000, 5_000] as const;

/** Seconds in the queue. */
const WAIT_BUCKETS_S = [0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60] as const;

const BREAKER_NUMBER = { closed: 0, half_open: 1, open: 2 } as const;

/** The engine's own figures. */
export class EngineMetrics {
  readonly #allowed: Counter;
  readonly #denied: (reason: string) => Counter;
  readonly #decideUs: Histogram;
  readonly #waitS: Histogram;
  readonly #preemptions: Counter;

  constructor(metrics: Metrics, state: EngineState, scheduler: Scheduler, monotonicMs: () => number) {
    const results = metrics.counter("signalbox_decisions_total", "Decisions by result: allow, or the reason of the denial.", ["result"]);
    this.#allowed = results.with("allow");
    this.#denied = (reason) => results.with(reason);
    this.#decideUs = metrics
      .histogram("signalbox_decide_duration_us", "Time spent on one decision, microseconds.", DECIDE_BUCKETS_US)
      .with();
    this.#waitS = metrics.histogram("signalbox_queue_wait_seconds", "Time in the queue of requests that waited.", WAIT_BUCKETS_S).with();
    this.#preemptions = metrics
      .counter("signalbox_preemptions_total", "Batch attempts without content asked to make room for a better class.")
      .with();
    const depth = metrics.gauge("signalbox_queue_depth", "Requests waiting.", ["class"]);
    const breaker = metrics.gauge("signalbox_breaker_state", "Breaker: 0 closed, 1 half open, 2 open.", ["backend"]);
    const inFlight = metrics.gauge("signalbox_backend_in_flight", "Requests in flight, by this engine's accounting.", ["backend"]);
    const limit = metrics.gauge("signalbox_backend_limit", "Concurrency limit.", ["backend"]);
    metrics.onScrape(() => {
      for (const name of CLASSES) depth.with(name).set(scheduler.depth(name));
      for (const backend of state.backends) {
        breaker.with(backend.name).set(BREAKER_NUMBER[backend.breaker.state(monotonicMs()).kind]);
        inFlight.with(backend.name).set(backend.inFlight);
        limit.with(backend.name).set(backend.limitValue);
      }
    });
  }

  /** An attempt was asked to yield. */
  preempted(): void {
    this.#preemptions.add();
  }

  /** Counts a decision. `waitMs` is 0 when it did not wait. */
  decided(decision: Decision, decideMs: number, waitMs: number): void {
    if (decision.result.case === "deny") this.#denied(decision.result.value.reason).add();
    else this.#allowed.add();
    this.#decideUs.observe(decideMs * 1_000);
    if (waitMs > 0) this.#waitS.observe(waitMs / 1_000);
  }
}
