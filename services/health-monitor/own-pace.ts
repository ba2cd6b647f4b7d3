import type { BackendLoad } from "#gen/signalbox/events/v1/events_pb.ts";
import { VOTE_TTL_MS } from "./agreement.ts";
import { Baseline } from "./estimator.ts";

/** Observations behind an engine's ratios from which on they say something. */
const SAMPLES_LEAST = 20;

/** Engines learn ratios up to 10: one that has come that far cannot say how much further it is. */
const RATIO_TOLD_MAX = 9.9;

interface Told {
  readonly slowdown: number;
  readonly atMs: number;
}

/**
 * How much slower than usual a backend is by itself, as the policy engines have learned: their ratios have its load taken out. An
 * engine that is full is slow, and nothing is wrong with it.
 */
export class OwnPace {
  readonly #decode = new Baseline();
  readonly #prefill = new Baseline();
  /** By policy engine: as many as have a vote. */
  readonly #told = new Map<string, Told>();

  /** A policy engine's latest word; none if it hardly knows the backend, or cannot look inside. */
  heard(engine: string, { structural, samples, decodeRatio, prefillRatio }: BackendLoad, nowMs: number): void {
    if (!structural || samples < SAMPLES_LEAST) {
      this.#told.delete(engine);
      return;
    }
    this.#decode.add(decodeRatio, nowMs);
    this.#prefill.add(prefillRatio, nowMs);
    const isAtEnd = Math.max(decodeRatio, prefillRatio) >= RATIO_TOLD_MAX;
    const slowdown = isAtEnd ? Number.POSITIVE_INFINITY : Math.max(this.#decode.ratioOf(decodeRatio), this.#prefill.ratioOf(prefillRatio));
    this.#told.set(engine, { slowdown, atMs: nowMs });
  }

  /** Times its usual, by the engine that finds it slowest; Infinity = nobody can tell. */
  slowdown(nowMs: number): number {
    let most = 0;
    for (const [engine, { slowdown, atMs }] of this.#told) {
      if (nowMs - atMs > VOTE_TTL_MS) this.#told.delete(engine);
      else most = Math.max(most, slowdown);
    }
    return this.#told.size === 0 ? Number.POSITIVE_INFINITY : most;
  }
}
