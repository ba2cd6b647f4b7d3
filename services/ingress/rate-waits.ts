import { RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { ClassName } from "#libs/config/model.ts";
import type { ConfigSource } from "#libs/config/source.ts";

const CLASS_NAMES: Readonly<Partial<Record<RequestClass, ClassName>>> = {
  [RequestClass.INTERACTIVE]: "interactive",
  [RequestClass.STANDARD]: "standard",
  [RequestClass.BATCH]: "batch",
};

/** An interactive request waits no longer than this many of its first-token targets: later its answer is late anyway (routing, 1.9). */
const TARGETS_WAITED = 3;

/**
 * Requests that wait for a provider's rate limit to lift. Each class waits as long, and as many of it, as in the scheduler's queue;
 * who finds no place is told at once.
 */
export class RateWaits {
  readonly #config: ConfigSource;
  readonly #waiting = new Map<ClassName, number>();

  constructor(config: ConfigSource) {
    this.#config = config;
  }

  /** Requests that wait now. */
  get size(): number {
    let sum = 0;
    for (const count of this.#waiting.values()) sum += count;
    return sum;
  }

  /** Longest wait of a request that is `ageMs` old, ms; `ttftTargetMs` 0 = it has none. */
  longestMs(requestClass: RequestClass, ttftTargetMs: number, ageMs: number): number {
    const name = CLASS_NAMES[requestClass];
    if (name === undefined) return 0;
    const { maxWaitMs } = this.#config.current.classes[name];
    const most = name === "interactive" && ttftTargetMs > 0 ? Math.min(maxWaitMs, TARGETS_WAITED * ttftTargetMs) : maxWaitMs;
    return most - ageMs;
  }

  /** Takes a place; undefined = there is none. The answer gives it back, once. */
  enter(requestClass: RequestClass): (() => void) | undefined {
    const name = CLASS_NAMES[requestClass];
    if (name === undefined) return undefined;
    const count = this.#waiting.get(name) ?? 0;
    if (count >= this.#config.current.classes[name].queueMax) return undefined;
    this.#waiting.set(name, count + 1);
    let isIn = true;
    return () => {
      if (isIn) this.#waiting.set(name, this.#waiting.get(name)! - 1);
      isIn = false;
    };
  }
}
