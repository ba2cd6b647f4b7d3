import type { OutputLengths } from "./lengths.ts";
import type { Waiter } from "./scheduler.ts";

/** Time a token of batch work is taken to need once it runs, ms: the pace most targets ask for. */
const SERVICE_PACE_MS = 50;

/**
 * How much of its time a waiter has used up, squared, 0..1: batch work waits for headroom as long as it has time, and its ceiling
 * rises as that runs out (routing, section 1.10). 0 for other classes, whose ceilings stand.
 */
export function latenessOf({ resolved, arrivedMs, expiresMs }: Waiter, lengths: OutputLengths, nowMs: number): number {
  if (resolved.class !== "batch") return 0;
  const { request, model } = resolved;
  const { p50 } = lengths.estimate(request.tenant, request.templateHash, model.name);
  const slackMs = expiresMs - nowMs - SERVICE_PACE_MS * p50;
  return (1 - Math.min(1, Math.max(0, slackMs / (expiresMs - arrivedMs)))) ** 2;
}
