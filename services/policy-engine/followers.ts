import type { Clock } from "#libs/clock/index.ts";
import type { Metrics } from "#libs/telemetry/index.ts";
import type { Follow } from "./leaders.ts";

/** Requests that wait for a leader at once, over all backends; more go without waiting. */
const FOLLOWERS_MAX = 1_024;

/** A request that waits for another's first token. */
export interface Follower {
  /** Ends the wait; it is answered with CANCELED. */
  withdraw(): void;
}

/** Requests that wait until the beginning of their prompt is computed by another (routing, section 1.10). Bounded in number and time. */
export class Followers {
  readonly #clock: Clock;
  readonly #led;
  readonly #late;
  #waiting = 0;

  constructor(clock: Clock, metrics: Metrics) {
    this.#clock = clock;
    const ends = metrics.counter(
      "signalbox_followers_total",
      "Requests that waited for another to compute the beginning of their prompt: led = it did, late = not soon enough to gain by.",
      ["end"],
    );
    this.#led = ends.with("led");
    this.#late = ends.with("late");
    const waiting = metrics.gauge("signalbox_followers", "Requests that wait for another to compute the beginning of their prompt.").with();
    metrics.onScrape(() => waiting.set(this.#waiting));
  }

  /** Calls `go` once, when the leader's first token came or the wait is no longer worth it. Returns what ends the wait without a call; undefined = no place. */
  wait({ leader, mostMs }: Follow, go: () => void): (() => void) | undefined {
    if (this.#waiting >= FOLLOWERS_MAX) return undefined;
    this.#waiting++;
    const leave = (): void => {
      this.#waiting--;
      timer.cancel();
      leader.followers.delete(led);
    };
    const led = (): void => {
      leave();
      this.#led.add();
      go();
    };
    const timer = this.#clock.after(mostMs, () => {
      leave();
      this.#late.add();
      go();
    });
    leader.followers.add(led);
    return leave;
  }
}
