import { type AttemptEnded, Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { BreakerEvent } from "#libs/resilience/index.ts";

/** What the breaker makes of an attempt's end (routing, sections 1.5 and 1.7). */
export function breakerEvent(ended: AttemptEnded): BreakerEvent {
  if (ended.outcome === Outcome.OK) return ended.garbage ? FAILURE : SUCCESS;
  if (ended.outcome !== Outcome.FAILED) return NEUTRAL;
  switch (ended.reason) {
    case "UPSTREAM_UNAVAILABLE":
    case "UPSTREAM_TIMEOUT":
    case "UPSTREAM_PROTOCOL":
    case "UPSTREAM_UNAUTHORIZED":
    case "STREAM_INTERRUPTED":
      return FAILURE;
    case "UPSTREAM_RATE_LIMITED":
      return { kind: "limited", retryAfterMs: ended.retryAfterMs };
    default:
      return NEUTRAL;
  }
}

export const SUCCESS: BreakerEvent = { kind: "success" };
const FAILURE: BreakerEvent = { kind: "failure" };
const NEUTRAL: BreakerEvent = { kind: "neutral" };

/** The same of a copy at a backend that serves clients: what a changed request or an eager sample breaks says nothing about what they ask. */
export function copyEvent(ended: AttemptEnded): BreakerEvent {
  const event = breakerEvent(ended);
  return event.kind === "failure" ? NEUTRAL : event;
}
