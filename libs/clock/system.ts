import { randomFillSync } from "node:crypto";
import { setTimeout as sleepFor } from "node:timers/promises";
import type { Clock, Random, Timer } from "./clock.ts";

function timerOf(handle: NodeJS.Timeout): Timer {
  handle.unref();
  return { cancel: () => clearTimeout(handle) };
}

/** The machine's clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  after: (delayMs, callback) => timerOf(setTimeout(callback, delayMs)),
  every: (periodMs, callback) => timerOf(setInterval(callback, periodMs)),
  sleep: async (delayMs, signal) => {
    await sleepFor(delayMs, undefined, signal ? { signal } : {});
  },
};

/** The machine's chance: `next` and `int` are fast and not for secrets, `bytes` comes from the system's generator. */
export const systemRandom: Random = {
  next: () => Math.random(),
  int: (bound) => Math.floor(Math.random() * bound),
  bytes: (target) => randomFillSync(target),
};
