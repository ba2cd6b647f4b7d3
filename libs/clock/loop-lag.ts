import { monitorEventLoopDelay } from "node:perf_hooks";
import type { Clock } from "./clock.ts";

/** How late the event loop is: what no request can be faster than. */
export interface LoopLag {
  /** Mean over the last second, ms; 0 before the first. */
  readonly lagMs: number;
}

/** A loop that is never late. */
export const noLag: LoopLag = { lagMs: 0 };

/** Timer period by which the delay is sampled, ms: every sample is at least that, so it is taken off. */
const RESOLUTION_MS = 20;

/** Length of a measurement, ms: one long pause of the garbage collector is no overload. */
const WINDOW_MS = 1_000;

const NANOSECONDS = 1e6;

/** Watches the event loop of this process until it ends. Does not keep the process alive. */
export function watchLoopLag(clock: Clock): LoopLag {
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delays.enable();
  const measured = { lagMs: 0 };
  clock.every(WINDOW_MS, () => {
    const meanMs = delays.mean / NANOSECONDS - RESOLUTION_MS;
    delays.reset();
    measured.lagMs = meanMs > 0 ? meanMs : 0;
  });
  return measured;
}
