import type { RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Timer } from "#libs/clock/index.ts";
import type { DispatchDeps } from "./dispatch-deps.ts";

/** The wait of one request before it asks the policy engine once more; one at a time. */
export class Pause {
  readonly #deps: Pick<DispatchDeps, "clock" | "rateWaits">;
  readonly #resume: () => void;
  #timer: Timer | undefined;
  #leave: (() => void) | undefined;
  #limitedMs = 0;

  constructor(deps: Pick<DispatchDeps, "clock" | "rateWaits">, resume: () => void) {
    this.#deps = deps;
    this.#resume = resume;
  }

  /** What was waited for rate limits so far, ms. */
  get limitedMs(): number {
    return this.#limitedMs;
  }

  /** Waits before the same backends are tried again. */
  start(afterMs: number): void {
    this.#timer = this.#deps.clock.after(afterMs, () => this.#over());
  }

  /** Waits for a rate limit to lift. False = too many of the class do so already. */
  startForLimit(requestClass: RequestClass, afterMs: number): boolean {
    this.#leave = this.#deps.rateWaits.enter(requestClass);
    if (this.#leave !== undefined) {
      const { clock } = this.#deps;
      const sinceMs = clock.monotonicMs();
      this.#timer = clock.after(afterMs, () => {
        this.#limitedMs += clock.monotonicMs() - sinceMs;
        this.#over();
      });
    }
    return this.#leave !== undefined;
  }

  #over(): void {
    this.cancel();
    this.#resume();
  }

  /** Ends the wait without a word. */
  cancel(): void {
    this.#timer?.cancel();
    this.#leave?.();
    this.#timer = this.#leave = undefined;
  }
}
