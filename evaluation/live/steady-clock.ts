import type { Clock } from "#libs/clock/index.ts";

/**
 * A clock on which chains of timers keep their pace: each delay counts from the moment the callback that asks for it was due, not
 * from when the machine got round to it. A simulated engine on it iterates as often in a second as its profile says.
 */
export function steadyClock(clock: Clock): Clock {
  let dueMs: number | undefined;
  const nowMs = (): number => dueMs ?? clock.monotonicMs();
  return {
    now: () => clock.now(),
    monotonicMs: nowMs,
    every: (periodMs, callback) => clock.every(periodMs, callback),
    sleep: (delayMs, signal) => clock.sleep(delayMs, signal),
    after: (delayMs, callback) => {
      const atMs = nowMs() + delayMs;
      return clock.after(Math.max(0, atMs - clock.monotonicMs()), () => {
        dueMs = atMs;
        try {
          callback();
        } finally {
          dueMs = undefined;
        }
      });
    },
  };
}
