import type { Clock } from "#libs/clock/index.ts";

/** Resolves when `work` settles or after `limitMs`, whichever comes first; leaves no timer behind. */
export function within(clock: Clock, limitMs: number, work: Promise<unknown>): Promise<void> {
  return new Promise((resolve) => {
    const timer = clock.after(limitMs, resolve);
    const settle = (): void => {
      timer.cancel();
      resolve();
    };
    work.then(settle, settle);
  });
}
