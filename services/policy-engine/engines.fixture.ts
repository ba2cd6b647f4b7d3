import type { FakeClock, SeededRandom } from "#libs/clock/fake.ts";

/** Costs of one engine's iterations, ms, and its limits. */
export interface EngineProfile {
  readonly base: number;
  readonly prefill: number;
  readonly decode: number;
  readonly kv: number;
  readonly kvCapacity: number;
}

/** Measured shapes of three GPUs over an 8-billion-parameter model. */
export const H100: EngineProfile = { base: 7, prefill: 0.033, decode: 0.05, kv: 4.5e-5, kvCapacity: 430_000 };
export const A100: EngineProfile = { base: 10, prefill: 0.065, decode: 0.07, kv: 6.5e-5, kvCapacity: 430_000 };
export const L40S: EngineProfile = { base: 20, prefill: 0.11, decode: 0.1, kv: 1.5e-4, kvCapacity: 180_000 };

/** Prompt tokens one iteration prefills at most. */
const CHUNK_TOKENS = 8_192;

/** What becomes of a request. */
export interface JobEvents {
  readonly onFirst: (ttftMs: number) => void;
  readonly onGap: (gapMs: number, tokens: number) => void;
  readonly onEnd: (durationMs: number) => void;
}

interface Job {
  readonly startedMs: number;
  readonly input: number;
  readonly output: number;
  readonly events: JobEvents;
  toPrefill: number;
  produced: number;
  gapSinceMs: number;
  gapTokens: number;
}

/** A continuously batching engine in virtual time: each iteration prefills a chunk and decodes one token of everyone. */
export class SimulatedEngine implements Serving {
  readonly #clock: FakeClock;
  readonly #profile: EngineProfile;
  #waiting: Job[] = [];
  #running: Job[] = [];
  #busy = false;
  /** Factor on every iteration: 10 = a gray failure. */
  slowness = 1;

  constructor(clock: FakeClock, profile: EngineProfile) {
    this.#clock = clock;
    this.#profile = profile;
  }

  submit(input: number, output: number, events: JobEvents): void {
    const nowMs = this.#clock.monotonicMs();
    this.#waiting.push({ startedMs: nowMs, input, output, events, toPrefill: input, produced: 0, gapSinceMs: nowMs, gapTokens: 0 });
    if (!this.#busy) this.#iterate();
  }

  #iterate(): void {
    let context = this.#running.reduce((sum, job) => sum + job.input + job.produced, 0);
    while (this.#waiting.length > 0 && context + this.#waiting[0]!.input + 64 <= this.#profile.kvCapacity) {
      const job = this.#waiting.shift()!;
      context += job.input;
      this.#running.push(job);
    }
    if (this.#running.length === 0) {
      this.#busy = false;
      return;
    }
    this.#busy = true;
    let budget = CHUNK_TOKENS;
    let prefilled = 0;
    const decoding = this.#running.filter((job) => job.toPrefill === 0);
    for (const job of this.#running) {
      const take = Math.min(budget, job.toPrefill);
      job.toPrefill -= take;
      budget -= take;
      prefilled += take;
    }
    const { base, prefill, decode, kv } = this.#profile;
    const ms = this.slowness * (base + prefill * prefilled + decode * decoding.length + kv * context);
    this.#clock.after(ms, () => this.#finish(decoding));
  }

  #finish(decoding: readonly Job[]): void {
    const nowMs = this.#clock.monotonicMs();
    for (const job of this.#running) {
      if (job.toPrefill > 0) continue;
      job.produced += 1;
      if (!decoding.includes(job)) {
        job.events.onFirst(nowMs - job.startedMs);
        job.gapSinceMs = nowMs;
        continue;
      }
      job.gapTokens += 1;
      if (nowMs - job.gapSinceMs >= 100) {
        job.events.onGap((nowMs - job.gapSinceMs) / job.gapTokens, job.produced);
        job.gapSinceMs = nowMs;
        job.gapTokens = 0;
      }
    }
    const ended = this.#running.filter((job) => job.produced >= job.output);
    this.#running = this.#running.filter((job) => job.produced < job.output);
    for (const job of ended) job.events.onEnd(nowMs - job.startedMs);
    this.#iterate();
  }
}

/** What both kinds of backends offer a simulation. */
export interface Serving {
  slowness: number;
  submit(input: number, output: number, events: JobEvents): void;
}

/** Pace of a simulated cloud, ms: first tokens around `ttftMs` with a long tail, then a steady pace, at any load. */
const CLOUD = { ttftMs: 300, ttftSigma: 0.3, tpotMs: 12 } as const;

/** A cloud provider in virtual time. */
export class SimulatedCloud implements Serving {
  readonly #clock: FakeClock;
  readonly #random: SeededRandom;
  slowness = 1;

  constructor(clock: FakeClock, random: SeededRandom) {
    this.#clock = clock;
    this.#random = random;
  }

  submit(_input: number, output: number, events: JobEvents): void {
    const ttftMs = this.slowness * longTailed(this.#random, CLOUD.ttftMs, CLOUD.ttftSigma);
    const durationMs = ttftMs + this.slowness * CLOUD.tpotMs * (output - 1);
    this.#clock.after(ttftMs, () => events.onFirst(ttftMs));
    if (output > 20) this.#clock.after(ttftMs + 20 * CLOUD.tpotMs, () => events.onGap(this.slowness * CLOUD.tpotMs, 20));
    this.#clock.after(durationMs, () => events.onEnd(durationMs));
  }
}

/** A positive number around `median` with a long tail. */
export function longTailed(random: SeededRandom, median: number, sigma: number): number {
  const normal = Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
  return Math.max(1, Math.round(median * Math.exp(sigma * normal)));
}
