import assert from "node:assert/strict";
import { test } from "node:test";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Metrics } from "#libs/telemetry/index.ts";
import { attemptEnd, NO_ANSWER } from "./attempt-end.ts";
import { attemptError } from "./codec.ts";
import { createMeters } from "./meters.ts";

test("attempts are counted by backend and outcome, and the gauge that replicas are scaled by is set at each scrape", () => {
  const seen: string[] = [];
  let scrape: () => void = () => {};
  const metrics: Metrics = {
    counter: (name) => ({ with: (...labels) => ({ add: () => void seen.push(`${name}{${labels.join(",")}}`) }) }),
    gauge: (name) => ({ with: () => ({ set: (value) => void seen.push(`${name} ${value}`) }) }),
    histogram: (name) => ({ with: (...labels) => ({ observe: (value) => void seen.push(`${name}{${labels.join(",")}} ${value}`) }) }),
    onScrape: (collect) => (scrape = collect),
  };
  const meters = createMeters(metrics, () => 3)("gpu-a");
  const times = { ttftMs: 250, durationMs: 2_000, headersMs: 100, contentSeen: true, dispatched: true, warnings: [], rateLimit: undefined };
  meters.ended(attemptEnd({ outcome: Outcome.OK }, NO_ANSWER, times));
  meters.ended(attemptEnd({ outcome: Outcome.OK, garbage: true }, NO_ANSWER, { ...times, ttftMs: 0 }));
  meters.ended(attemptEnd({ outcome: Outcome.FAILED, error: attemptError("UPSTREAM_TIMEOUT", "m") }, NO_ANSWER, { ...times, ttftMs: 0 }));
  meters.ended(
    attemptEnd({ outcome: Outcome.FAILED, error: attemptError("UPSTREAM_UNAVAILABLE", "m", { busy: true }) }, NO_ANSWER, {
      ...times,
      ttftMs: 0,
    }),
  );
  scrape();
  assert.deepEqual(
    seen.filter((line) => !line.includes("duration")),
    [
      "signalbox_adapter_attempts_total{gpu-a,ok}",
      "signalbox_adapter_ttft_seconds{gpu-a} 0.25",
      "signalbox_adapter_attempts_total{gpu-a,garbage}",
      "signalbox_adapter_attempts_total{gpu-a,upstream_timeout}",
      "signalbox_adapter_attempts_total{gpu-a,busy}",
      "signalbox_adapter_in_flight 3",
    ],
  );
  assert.equal(seen.filter((line) => line === "signalbox_adapter_duration_seconds{gpu-a} 2").length, 4);
});
