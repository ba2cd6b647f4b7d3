import type { Clock } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import { type AdapterPeer, type AnswerStatus, lacking } from "#libs/peers/index.ts";

/** Unmet backends named in a readiness answer; the others are counted. */
const NAMED_MAX = 8;

/**
 * Which backends an adapter ever served, for readiness. A loss after that is answered by failover, not by taking every ingress out.
 * Backends of one process may be met before those of another: until then each request for the others alone would be refused.
 */
export class MetAdapters {
  readonly #config: ConfigSource;
  readonly #adapters: Pick<AdapterPeer, "serves">;
  readonly #clock: Clock;
  readonly #met = new Set<string>();
  #startedMs = Number.POSITIVE_INFINITY;

  constructor(config: ConfigSource, adapters: Pick<AdapterPeer, "serves">, clock: Clock) {
    this.#config = config;
    this.#adapters = adapters;
    this.#clock = clock;
  }

  /** The wait begins. */
  start(): void {
    this.#startedMs = this.#clock.monotonicMs();
  }

  /** Whether each configured backend has been served by somebody. */
  get all(): boolean {
    return this.#unmet().length === 0;
  }

  /** Unready without any adapter, and for ten seconds after the start without one of each backend; degraded from then on. */
  status(): AnswerStatus {
    const unmet = this.#unmet();
    if (unmet.length === 0) return { state: "ok" };
    if (this.#met.size === 0) return { state: "failed", detail: "no adapter has said what it serves yet" };
    const more = unmet.length > NAMED_MAX ? ` and ${unmet.length - NAMED_MAX} more` : "";
    return lacking(`no adapter serves ${unmet.slice(0, NAMED_MAX).join(", ")}${more} yet`, this.#clock, this.#startedMs);
  }

  #unmet(): readonly string[] {
    const unmet: string[] = [];
    for (const name of this.#config.current.backends.keys()) {
      if (this.#met.has(name)) continue;
      if (this.#adapters.serves(name)) this.#met.add(name);
      else unmet.push(name);
    }
    return unmet;
  }
}
