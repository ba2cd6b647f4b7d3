import type { Clock, Random, Timer } from "#libs/clock/index.ts";
import type { Config } from "#libs/config/model.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import type { Board } from "./board.ts";
import type { ProbePort } from "./probe.ts";
import { type ScrapeTarget, scrapeTargetOf } from "./targets.ts";

/** Between scrapes of a busy and of an idle engine, ms. */
const BUSY_MS = 250;
const IDLE_MS = 1_000;
/** Time for one scrape, ms. */
const TIMEOUT_MS = 200;
/** Longest wait after failures, ms; it doubles up to here. */
const FAILED_MS = 5_000;
/** Wait after an answer that holds no gauges: metrics are switched off there, ms. */
const USELESS_MS = 30_000;
/** How often it is looked whether a scrape is due, ms. */
const LOOK_MS = 50;
/** Waits are drawn from 1 - JITTER to 1 + JITTER. */
const JITTER = 0.2;

interface Target extends ScrapeTarget {
  readonly backends: readonly string[];
  nextAtMs: number;
  failures: number;
  running: boolean;
}

/** Reads the engines' gauges: one scrape per engine, however many backends it carries. */
export class ScrapeLoop {
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
    const grouped = new Map<string, ScrapeTarget & { backends: string[] }>();
    for (const backend of config.backends.values()) {
      const target = scrapeTargetOf(backend);
      if (!target) continue;
      const group = grouped.get(target.url) ?? { ...target, backends: [] };
      group.backends.push(backend.name);
      grouped.set(target.url, group);
    }
    this.#targets = [...grouped.values()].map((group) => ({ ...group, nextAtMs: Number.NEGATIVE_INFINITY, failures: 0, running: false }));
  }

  start(): void {
    this.#look();
    this.#timer = this.#deps.clock.every(LOOK_MS, () => this.#look());
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #look(): void {
    const nowMs = this.#deps.clock.monotonicMs();
    for (const target of this.#targets) {
      if (target.running || nowMs < target.nextAtMs) continue;
      target.running = true;
      void this.#scrape(target);
    }
  }

  async #scrape(target: Target): Promise<void> {
    const { probe, clock, board, logger, random } = this.#deps;
    let waitMs: number;
    try {
      const { status, body } = await probe.get(target.url, TIMEOUT_MS);
      const scrape = status === 200 ? target.scraper(body) : undefined;
      target.failures = 0;
      if (scrape) for (const backend of target.backends) board.scraped(backend, scrape, clock.now());
      else if (status < 500) logger.debug({ url: target.url, status }, "an engine states no gauges");
      const busy = target.backends.some((backend) => board.isBusy(backend, clock.monotonicMs()));
      waitMs = scrape ? (busy ? BUSY_MS : IDLE_MS) : status < 500 ? USELESS_MS : FAILED_MS;
    } catch {
      waitMs = Math.min(FAILED_MS, BUSY_MS * 2 ** Math.min(10, target.failures++));
    }
    target.running = false;
    target.nextAtMs = clock.monotonicMs() + waitMs * (1 - JITTER + 2 * JITTER * random.next());
  }
}
