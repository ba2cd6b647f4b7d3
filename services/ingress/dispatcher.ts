import { StallWatch, type Timer } from "#libs/clock/index.ts";
import { LiveMap } from "#libs/live/index.ts";
import type { DispatchDeps } from "./dispatch-deps.ts";
import { Exchange } from "./dispatch.ts";
import { internalError } from "./failures.ts";
import type { Intake } from "./intake.ts";
import { WHEEL_TICK_MS } from "./limits.ts";
import type { Reply } from "./reply.ts";

/** All requests in dispatch: one wheel watches their time limits. */
export class Dispatcher {
  readonly #deps: DispatchDeps;
  /** By decision id. */
  readonly #live = new LiveMap<string, Exchange>();
  #timer: Timer | undefined;
  #idle: (() => void)[] = [];

  constructor(deps: DispatchDeps) {
    this.#deps = deps;
    deps.policy.onPreemption(({ decisionId, attemptId }) => this.#live.get(decisionId)?.preempt(attemptId));
  }

  /** Starts the wheel. */
  start(): void {
    const { clock } = this.#deps;
    const stalls = new StallWatch(WHEEL_TICK_MS, clock.monotonicMs());
    this.#timer = clock.every(WHEEL_TICK_MS, () => {
      const nowMs = clock.monotonicMs();
      const lostMs = stalls.lostMs(nowMs);
      for (const exchange of this.#live.values()) this.#tick(exchange, nowMs, lostMs);
    });
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** Requests that are not over, or whose attempts are still being settled. */
  get inFlight(): number {
    return this.#live.size;
  }

  /** Takes a request; its answer goes to `reply`. */
  dispatch(intake: Intake, reply: Reply): Exchange {
    const { decisionId } = intake.decide;
    const exchange = new Exchange(this.#deps, intake, reply, () => this.#closed(decisionId));
    this.#live.set(decisionId, exchange);
    this.#deps.recorder.began();
    exchange.start();
    return exchange;
  }

  /** Resolves when nothing is in flight. */
  whenIdle(): Promise<void> {
    if (this.#live.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Ends every request with an explicit error. */
  shutDown(): void {
    for (const exchange of this.#live.values()) exchange.shutDown();
  }

  /** A mistake in one request must not stop the wheel for the others. */
  #tick(exchange: Exchange, nowMs: number, lostMs: number): void {
    try {
      exchange.tick(nowMs, lostMs);
    } catch (cause) {
      exchange.broke(internalError(cause));
    }
  }

  #closed(decisionId: string): void {
    this.#live.delete(decisionId);
    if (this.#live.size > 0) return;
    const waiting = this.#idle;
    this.#idle = [];
    for (const resolve of waiting) resolve();
  }
}
