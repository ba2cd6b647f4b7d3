import type { AttemptEnd } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Counter, Histogram, Metrics } from "#libs/telemetry/index.ts";

/** Seconds; the GenAI conventions' buckets for times of a model. */
const BUCKETS_S = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/** What one backend's attempts are counted in. */
export interface BackendMeters {
  /** Counts an attempt that ended. */
  ended(end: AttemptEnd): void;
}

/** Makes the meters of backends, and keeps the in-flight gauge that replicas are scaled by. */
export function createMeters(metrics: Metrics, inFlight: () => number): (backend: string) => BackendMeters {
  const attempts = metrics.counter("signalbox_adapter_attempts_total", "Attempts ended at this adapter", ["backend", "outcome"]);
  const ttft = metrics.histogram("signalbox_adapter_ttft_seconds", "From dispatch to the first content", BUCKETS_S, ["backend"]);
  const duration = metrics.histogram("signalbox_adapter_duration_seconds", "From dispatch to the end", BUCKETS_S, ["backend"]);
  const gauge = metrics.gauge("signalbox_adapter_in_flight", "Attempts in flight at this adapter").with();
  metrics.onScrape(() => gauge.set(inFlight()));
  return (backend) => {
    const ttftOf: Histogram = ttft.with(backend);
    const durationOf: Histogram = duration.with(backend);
    const outcomes = new Map<string, Counter>();
    return {
      ended: (end) => {
        const outcome = outcomeWord(end);
        let counter = outcomes.get(outcome);
        if (counter === undefined) outcomes.set(outcome, (counter = attempts.with(backend, outcome)));
        counter.add();
        if (end.dispatched) durationOf.observe(end.durationMs / 1000);
        if (end.ttftMs > 0) ttftOf.observe(end.ttftMs / 1000);
      },
    };
  };
}

function outcomeWord(end: AttemptEnd): string {
  if (end.outcome === Outcome.OK) return end.garbage ? "garbage" : "ok";
  if (end.error?.busy === true) return "busy";
  return end.error === undefined ? "failed" : end.error.reason.toLowerCase();
}
