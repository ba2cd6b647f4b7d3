import { monitorEventLoopDelay } from "node:perf_hooks";
import type { Clock } from "./clock.ts";

/** How late the event loop is: what no request can be faster than. */
export interface LoopLag {
  /** The lesser mean of the last two seconds, ms; 0 before there are two. */
  readonly lagMs: number;
}

/** A loop that is never late. */
export const noLag: LoopLag = { lagMs: 0 };

/** Timer period by which the delay is sampled, ms: every sample is at least that, so it is taken off. */
const RESOLUTION_MS = 20;

/** Length of a measurement, ms; two in a row must be late, because a start or one long pause of the collector is no overload. */
const WINDOW_MS = 1_000;

const NANOSECONDS = 1e6;

/** Watches the event loop of this process until it ends. Does not keep the process alive. */
export function watchLoopLag(clock: Clock): LoopLag {
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delays.enable();
  const measured = { lagMs: 0 };
  let lastMs = 0;
  clock.every(WINDOW_MS, () => {
    const meanMs = delays.mean / NANOSECONDS - RESOLUTION_MS;
    delays.reset();
    const lateMs = meanMs > 0 ? meanMs : 0;
    measured.lagMs = Math.min(lastMs, lateMs);
    lastMs = lateMs;
  });
  return measured;
}
