import { type AttemptEnd, type AttemptOpen, Dialect } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { EventBus } from "#libs/bus/index.ts";
import type { Clock, Random } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import type { ServiceModule } from "#libs/lifecycle/index.ts";
import { Slots } from "#libs/live/index.ts";
import type { AdapterHost, AttemptHandle, AttemptSink } from "#libs/peers/index.ts";
import type { Logger, Metrics } from "#libs/telemetry/index.ts";
import { Announcer } from "./announcer.ts";
import { attemptEnd, NO_ANSWER } from "./attempt-end.ts";
import { Attempt, type AttemptDeps } from "./attempt.ts";
import { attemptError, type AttemptReason, type ErrorFacts } from "./codec.ts";
import { Completions } from "./completions.ts";
import { createMeters } from "./meters.ts";
import { MicroBatches } from "./micro-batch/index.ts";
import { type BackendEntry, Registry } from "./registry.ts";
import { createTransport, Sweeper } from "./upstream/index.ts";

/** What the provider adapters need. */
export interface ProviderAdaptersDeps {
  readonly config: ConfigSource;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly bus: EventBus;
  /** Id of this replica, unique in the mesh. */
  readonly replica: string;
  /** host:port other processes reach this one at; empty or absent when embedded. */
  readonly address?: string;
  /** Dialect folder to restrict to: openai, anthropic. Absent = all. */
  readonly only?: string;
}

/** The adapters of one process. */
export interface ProviderAdaptersHost extends AdapterHost {
  readonly module: ServiceModule;
}

/** Speaks providers' APIs. Serves attempts from the moment it is made; `start` announces it. */
export function createProviderAdapters(deps: ProviderAdaptersDeps): ProviderAdaptersHost {
  return new ProviderAdapters(deps);
}

const NO_HANDLE = { consumed: (): void => {}, cancel: (): void => {} };

class ProviderAdapters implements ProviderAdaptersHost {
  readonly replica: string;
  readonly module: ServiceModule;
  draining = false;
  readonly #deps: ProviderAdaptersDeps;
  readonly #registry: Registry;
  readonly #announcer: Announcer;
  readonly #completions: Completions;
  readonly #transport = createTransport();
  readonly #sweeper: Sweeper;
  readonly #attemptDeps: AttemptDeps;
  /** Calls shared by several attempts, which are told by themselves. */
  readonly #sharedDeps: AttemptDeps;
  readonly #batches: MicroBatches;
  readonly #running = new Slots<Attempt>();
  readonly #listeners: (() => void)[] = [];
  #unsubscribe: () => void = () => {};
  #idle: (() => void) | undefined;

  constructor(deps: ProviderAdaptersDeps) {
    this.#deps = deps;
    this.replica = deps.replica;
    this.#sweeper = new Sweeper(deps.clock);
    this.#completions = new Completions(deps.bus, deps.clock, deps.replica);
    this.#registry = new Registry(
      deps.only,
      createMeters(deps.metrics, () => this.inFlight()),
    );
    this.#announcer = new Announcer(
      deps,
      {
        replica: deps.replica,
        address: deps.address ?? "",
        backends: () => this.backends(),
        inFlight: () => this.inFlight(),
        leaving: () => this.draining,
      },
      () => this.#registry.resize((backend) => this.#announcer.replicasOf(backend)),
    );
    this.#load();
    this.#attemptDeps = {
      clock: deps.clock,
      transport: this.#transport,
      sweeper: this.#sweeper,
      replica: deps.replica,
      ended: (attempt, end) => {
        this.#left(attempt);
        this.#ended(attempt.entry, attempt.open, end);
      },
    };
    this.#sharedDeps = { ...this.#attemptDeps, ended: (attempt) => this.#left(attempt) };
    this.#batches = new MicroBatches({
      clock: deps.clock,
      replica: deps.replica,
      start: (entry, open, sink) => this.#begin(this.#sharedDeps, entry, open, sink),
      ended: (entry, open, end) => this.#ended(entry, open, end),
    });
    this.module = {
      name: "provider-adapters",
      start: () => this.#start(),
      drain: (graceMs) => this.#drain(graceMs),
      stop: () => this.#stop(),
      checks: [{ name: "provider-adapters", status: () => this.#status() }],
    };
  }

  attempt(open: AttemptOpen, sink: AttemptSink): AttemptHandle {
    const entry = this.#registry.get(open.backend);
    if (entry === undefined)
      return this.#refuse(open, sink, "UPSTREAM_UNAVAILABLE", "This adapter does not serve the backend.", { busy: true });
    if (this.draining) return this.#refuse(open, sink, "UPSTREAM_UNAVAILABLE", "This adapter is leaving.", { busy: true });
    if (!entry.codec.accepts(open.dialect)) {
      return this.#refuse(open, sink, "FEATURE_UNSUPPORTED", `${entry.backend.provider} backends cannot answer this kind of request.`, {});
    }
    return (
      (open.dialect === Dialect.OPENAI_EMBEDDINGS ? this.#batches.take(entry, open, sink) : undefined) ??
      this.#begin(this.#attemptDeps, entry, open, sink) ??
      this.#refuse(open, sink, "UPSTREAM_UNAVAILABLE", "The backend has no room.", { busy: true })
    );
  }

  /** Calls upstream; undefined = no room. */
  #begin(deps: AttemptDeps, entry: BackendEntry, open: AttemptOpen, sink: AttemptSink): Attempt | undefined {
    if (!entry.limit.tryEnter()) return undefined;
    const attempt = new Attempt(deps, open, entry, sink);
    attempt.place = this.#running.add(attempt);
    attempt.begin();
    return attempt;
  }

  serves(backend: string): boolean {
    return !this.draining && this.#registry.get(backend) !== undefined;
  }

  backends(): readonly string[] {
    return this.#registry.names();
  }

  inFlight(): number {
    return this.#running.size + this.#batches.waiting;
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** An attempt that ends before it begins: it costs nothing and is published nowhere. */
  #refuse(open: AttemptOpen, sink: AttemptSink, reason: AttemptReason, message: string, facts: ErrorFacts): AttemptHandle {
    const times = { ttftMs: 0, durationMs: 0, headersMs: 0, contentSeen: false, dispatched: false, warnings: [], rateLimit: undefined };
    const error = attemptError(reason, message, { untouched: true, ...facts });
    const end = attemptEnd({ outcome: Outcome.FAILED, error }, NO_ANSWER, times);
    this.#registry.get(open.backend)?.meters.ended(end);
    queueMicrotask(() => sink.end(end));
    return { ...NO_HANDLE, replica: this.replica };
  }

  #left(attempt: Attempt): void {
    this.#running.remove(attempt.place);
    attempt.entry.limit.leave();
    this.#batches.roomAt(attempt.entry);
    if (this.#running.size === 0) this.#idle?.();
  }

  #ended(entry: BackendEntry, open: AttemptOpen, end: AttemptEnd): void {
    entry.meters.ended(end);
    this.#completions.add(open, end);
    if (end.error !== undefined && this.#deps.logger.debugEnabled) {
      const { reason, message, httpStatus, code } = end.error;
      this.#deps.logger.debug({ attempt: open.attemptId, backend: open.backend, reason, message, httpStatus, code }, "attempt failed");
    }
  }

  #load(): void {
    this.#registry.load(this.#deps.config.current, (backend) => this.#announcer.replicasOf(backend));
  }

  #changed(): void {
    this.#announcer.announce();
    for (const listener of this.#listeners) listener();
  }

  async #start(): Promise<void> {
    this.#unsubscribe = this.#deps.config.onChange(() => {
      this.#load();
      this.#changed();
    });
    this.#announcer.start();
  }

  async #drain(graceMs: number): Promise<void> {
    if (!this.draining) {
      this.draining = true;
      this.#changed();
    }
    this.#batches.flush();
    if (this.#running.size > 0) {
      await new Promise<void>((resolve) => {
        const timer = this.#deps.clock.after(graceMs, resolve);
        this.#idle = () => {
          timer.cancel();
          resolve();
        };
      });
      this.#idle = undefined;
    }
    if (this.#running.size > 0) this.#deps.logger.warn({ attempts: this.#running.size }, "attempts cut at the end of the drain");
    for (const attempt of this.#running) attempt.abandon();
    this.#completions.flush();
  }

  async #stop(): Promise<void> {
    this.#unsubscribe();
    for (const attempt of this.#running) attempt.abandon();
    this.#completions.flush();
    this.#announcer.stop();
    this.#sweeper.stop();
    await this.#transport.close();
  }

  #status(): { state: "ok" | "degraded"; detail?: string } {
    return this.#registry.names().length > 0 ? { state: "ok" } : { state: "degraded", detail: "no backend to serve" };
  }
}
