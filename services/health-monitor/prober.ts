import type { Clock, Random, Timer } from "#libs/clock/index.ts";
import type { Config } from "#libs/config/model.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import type { Board } from "./board.ts";
import type { ProbePort } from "./probe.ts";
import { type Liveness, livenessOf } from "./targets.ts";

/** Between liveness calls, ms; the shorter one while a breaker is open. */
const CALM_MS = 5_000;
const URGENT_MS = 1_000;
/** Time for one call, ms. */
const TIMEOUT_MS = 1_500;
/** How often it is looked whether a call is due, ms. */
const LOOK_MS = 100;
/** Share by which chance shortens a wait, so that targets spread. */
const JITTER = 0.1;

interface Target {
  readonly liveness: Liveness;
  readonly backends: readonly string[];
  lastAtMs: number;
  /** Share of the wait taken off this time. */
  jitter: number;
  running: boolean;
}

/** Makes the free liveness calls: one per target, however many backends share it. */
export class Prober {
  readonly #deps: {
    readonly clock: Clock;
    readonly random: Random;
    readonly logger: Logger;
    readonly probe: ProbePort;
    readonly board: Board;
  };
  #targets: readonly Target[] = [];
  #timer: Timer | undefined;

  constructor(deps: { clock: Clock; random: Random; logger: Logger; probe: ProbePort; board: Board }) {
    this.#deps = deps;
  }

  configure(config: Config): void {
    const grouped = new Map<string, { liveness: Liveness; backends: string[] }>();
    for (const backend of config.backends.values()) {
      const liveness = livenessOf(backend);
      if (!liveness) continue;
      const key = JSON.stringify(liveness);
      const group = grouped.get(key) ?? { liveness, backends: [] };
      group.backends.push(backend.name);
      grouped.set(key, group);
    }
    this.#targets = [...grouped.values()].map((group) => ({ ...group, lastAtMs: Number.NEGATIVE_INFINITY, jitter: 0, running: false }));
  }

  start(): void {
    this.#look();
    this.#timer = this.#deps.clock.every(LOOK_MS, () => this.#look());
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #look(): void {
    const { clock, board } = this.#deps;
    const nowMs = clock.monotonicMs();
    for (const target of this.#targets) {
      if (target.running) continue;
      const waitMs = target.backends.some((backend) => board.isUrgent(backend, nowMs)) ? URGENT_MS : CALM_MS;
      if (nowMs - target.lastAtMs < waitMs * (1 - target.jitter)) continue;
      target.lastAtMs = nowMs;
      target.jitter = JITTER * this.#deps.random.next();
      target.running = true;
      void this.#call(target);
    }
  }

  async #call(target: Target): Promise<void> {
    const { probe, clock, board, logger } = this.#deps;
    let live = false;
    try {
      if (target.liveness.kind === "connect") {
        await probe.connect(target.liveness.host, target.liveness.port, TIMEOUT_MS);
        live = true;
      } else {
        // any answer but a server error shows that somebody is there; without a key most answer 401
        const { status } = await probe.get(target.liveness.url, TIMEOUT_MS);
        live = status > 0 && status < 500;
      }
    } catch (cause) {
      logger.debug({ err: cause, backends: target.backends }, "liveness call failed");
    }
    target.running = false;
    for (const backend of target.backends) board.probed(backend, live, clock.now());
  }
}
