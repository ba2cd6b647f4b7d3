/** A handle to cancel a pending timer. Cancelling twice, or after it fired, does nothing. */
export interface Timer {
  cancel(): void;
}

/**
 * Time as an argument. Everything that waits or reads the time gets one of these, so that the same code runs in
 * virtual time. `deploy/` hands out {@link systemClock}; tests and the evaluation hand out a `FakeClock`.
 */
export interface Clock {
  /** Wall-clock time, ms since the epoch. May jump; only for records and calendars. */
  now(): number;
  /** Monotonic time in ms with a fraction, from an arbitrary origin. For durations and deadlines. */
  monotonicMs(): number;
  /** Calls `callback` once after `delayMs` (>= 0). Never synchronously. The timer does not keep the process alive. */
  after(delayMs: number, callback: () => void): Timer;
  /** Calls `callback` every `periodMs` (> 0) until cancelled. Does not keep the process alive. */
  every(periodMs: number, callback: () => void): Timer;
  /** Resolves after `delayMs`; rejects with the signal's reason when it aborts first. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

/** Chance as an argument: uniform numbers in [0, 1) and bytes. */
export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
  /** Uniform integer in [0, bound). */
  int(bound: number): number;
  /** Fills `target` with random bytes and returns it. */
  bytes<T extends Uint8Array>(target: T): T;
}
