import type { Clock } from "#libs/clock/index.ts";

/** Waits for `work`, but no longer than `timeoutMs`. `work` must not reject. Leaves no timer behind. */
export function withinMs(clock: Clock, timeoutMs: number, work: Promise<void>): Promise<void> {
  return new Promise((resolve) => {
    const timer = clock.after(Math.max(0, timeoutMs), resolve);
    void work.then(() => {
      timer.cancel();
      resolve();
    });
  });
}
