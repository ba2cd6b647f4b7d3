import type { Clock, Random } from "#libs/clock/index.ts";
import type { EngineCall } from "./engine.ts";

/** A cloud provider: its times do not depend on our load. */
export interface CloudProfile {
  readonly name: string;
  /** Median ms to the first token, and the spread of its logarithm. */
  readonly ttftMs: number;
  readonly ttftSigma: number;
  /** ms per output token. */
  readonly tpotMs: number;
  /** USD per million input and output tokens. */
  readonly inputUsd: number;
  readonly outputUsd: number;
}

/** A premium model at list price, and a small one. */
export const CLOUDS = {
  premium: { name: "cloud-premium", ttftMs: 450, ttftSigma: 0.5, tpotMs: 12, inputUsd: 3, outputUsd: 15 },
  small: { name: "cloud-small", ttftMs: 450, ttftSigma: 0.5, tpotMs: 12, inputUsd: 0.25, outputUsd: 2 },
} as const satisfies Record<string, CloudProfile>;

/** A standard normal number by Box and Muller's method. */
function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
}

/** A simulated cloud. Tokens are reported in one step at the end: nothing between them is of interest. */
export class SimulatedCloud {
  readonly profile: CloudProfile;
  slowdown = 1;
  readonly #clock: Clock;
  readonly #random: Random;
  running = 0;

  constructor(profile: CloudProfile, clock: Clock, random: Random) {
    this.profile = profile;
    this.#clock = clock;
    this.#random = random;
  }

  submit(call: EngineCall): () => void {
    const { ttftMs, ttftSigma, tpotMs } = this.profile;
    const first = this.slowdown * ttftMs * Math.exp(ttftSigma * normal(this.#random));
    this.running++;
    let gone = false;
    const end = (): void => {
      if (gone) return;
      gone = true;
      this.running--;
    };
    this.#clock.after(first, () => {
      if (gone) return;
      call.onFirstToken(0);
      this.#clock.after(this.slowdown * tpotMs * (call.outputTokens - 1), () => {
        if (gone) return;
        end();
        call.onDone();
      });
    });
    return end;
  }
}
