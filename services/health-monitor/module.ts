import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { LoadPublishedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import { type HealthSnapshot, HealthSnapshotSchema } from "#gen/signalbox/health/v1/health_service_pb.ts";
import { type EventBus, type Subscription, SUBJECTS } from "#libs/bus/index.ts";
import type { Clock, Random, Timer } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import type { ServiceModule } from "#libs/lifecycle/index.ts";
import type { HealthPeer } from "#libs/peers/index.ts";
import type { Logger, Metrics } from "#libs/telemetry/index.ts";
import { Board } from "./board.ts";
import { readEnded } from "./ended.ts";
import type { ProbePort } from "./probe.ts";
import { Prober } from "./prober.ts";
import { ScrapeLoop } from "./scrape-loop.ts";

/** How often backends are judged and changes published, ms. */
const TICK_MS = 250;
/** Longest silence while nothing changes, ms. */
const HEARTBEAT_MS = 1_000;

/** What the monitor needs. */
export interface HealthMonitorDeps {
  readonly config: ConfigSource;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly bus: EventBus;
  readonly probe: ProbePort;
  /** Names this monitor in its snapshots. */
  readonly monitorId: string;
}

/** The monitor as its process sees it. */
export interface HealthHost extends HealthPeer {
  readonly module: ServiceModule;
}

/** Watches all backends from attempts, the engines' breakers, liveness calls and gauges, and publishes what is agreed. */
export function createHealthMonitor(deps: HealthMonitorDeps): HealthHost {
  return new HealthMonitor(deps);
}

class HealthMonitor implements HealthHost {
  readonly module: ServiceModule;
  readonly #deps: HealthMonitorDeps;
  readonly #board: Board;
  readonly #prober: Prober;
  readonly #scrapes: ScrapeLoop;
  readonly #ends: (() => void)[] = [];
  #revision = 0n;
  #publishedAtMs = Number.NEGATIVE_INFINITY;
  #started = false;

  constructor(deps: HealthMonitorDeps) {
    this.#deps = deps;
    this.#board = new Board(deps.config.current, deps.random);
    const parts = { clock: deps.clock, random: deps.random, logger: deps.logger, probe: deps.probe, board: this.#board };
    this.#prober = new Prober(parts);
    this.#scrapes = new ScrapeLoop(parts);
    this.#gauges();
    this.module = {
      name: "health-monitor",
      checks: [{ name: "health-monitor", status: () => ({ state: this.#started ? "ok" : "failed" }) }],
      start: () => this.#start(),
      // nothing of a caller's is in hand here
      drain: () => Promise.resolve(),
      stop: () => this.#stop(),
    };
  }

  snapshot(): Promise<HealthSnapshot> {
    return Promise.resolve(this.#snapshot());
  }

  #start(): Promise<void> {
    const { bus, clock, config } = this.#deps;
    this.#configure();
    this.#ends.push(config.onChange(() => this.#configure()));
    this.#listen(SUBJECTS.attemptCompleted, (payload) => {
      const nowMs = clock.monotonicMs();
      readEnded(payload, (backend, end) => this.#board.attempted(backend, end, nowMs));
    });
    this.#listen(`${SUBJECTS.loadPublished}.*`, (payload) =>
      this.#board.voted(fromBinary(LoadPublishedSchema, payload), clock.monotonicMs()),
    );
    this.#prober.start();
    this.#scrapes.start();
    const timer: Timer = clock.every(TICK_MS, () => this.#tick());
    const back: Subscription = bus.onConnection((connected) => {
      if (connected) this.#publishedAtMs = Number.NEGATIVE_INFINITY;
    });
    this.#ends.push(
      () => timer.cancel(),
      () => back.close(),
    );
    this.#started = true;
    return Promise.resolve();
  }

  #stop(): Promise<void> {
    this.#started = false;
    for (const end of this.#ends.splice(0)) end();
    this.#prober.stop();
    this.#scrapes.stop();
    this.#deps.probe.close();
    return Promise.resolve();
  }

  #configure(): void {
    const { current } = this.#deps.config;
    this.#board.configure(current);
    this.#prober.configure(current);
    this.#scrapes.configure(current);
  }

  #listen(subject: string, take: (payload: Uint8Array) => void): void {
    const subscription = this.#deps.bus.subscribe(subject, (message) => {
      try {
        take(message.payload);
      } catch (cause) {
        this.#deps.logger.warn({ err: cause, subject }, "a bus message could not be read");
      }
    });
    this.#ends.push(() => subscription.close());
  }

  #tick(): void {
    const nowMs = this.#deps.clock.monotonicMs();
    this.#board.evaluate(nowMs);
    // the heartbeat is looked for at a tick, so it must not be missed by a hair
    const due = nowMs - this.#publishedAtMs >= HEARTBEAT_MS - TICK_MS / 2;
    if (!this.#board.takeDirty() && !due) return;
    this.#publishedAtMs = nowMs;
    this.#revision++;
    this.#deps.bus.publish(SUBJECTS.healthPublished, toBinary(HealthSnapshotSchema, this.#snapshot()));
  }

  #snapshot(): HealthSnapshot {
    return create(HealthSnapshotSchema, {
      revision: this.#revision,
      monitor: this.#deps.monitorId,
      backends: this.#board.list(),
      publishedAtMs: this.#deps.clock.now(),
    });
  }

  #gauges(): void {
    const { metrics } = this.#deps;
    const state = metrics.gauge("signalbox_backend_health", "1 healthy, 2 degraded, 3 ejected, 4 probing; 0 unknown", ["backend"]);
    const rate = metrics.gauge("signalbox_backend_success_rate", "Share of attempts that succeeded in the window; -1 none", ["backend"]);
    const changes = metrics.gauge("signalbox_backend_state_changes", "Changes of state since the monitor started", ["backend"]);
    const live = metrics.gauge("signalbox_backend_live", "Whether the last liveness call succeeded", ["backend"]);
    metrics.onScrape(() => {
      for (const backend of this.#board.list()) {
        state.with(backend.backend).set(backend.state);
        rate.with(backend.backend).set(backend.successRate);
        changes.with(backend.backend).set(Number(backend.changes));
        live.with(backend.backend).set(backend.live ? 1 : 0);
      }
    });
  }
}
