import { create } from "@bufbuild/protobuf";
import type { LoadPublished } from "#gen/signalbox/events/v1/events_pb.ts";
import {
  type BackendHealth,
  BackendHealthSchema,
  type EngineGauges,
  EngineGaugesSchema,
  HealthState,
} from "#gen/signalbox/health/v1/health_service_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Random } from "#libs/clock/index.ts";
import type { Config } from "#libs/config/model.ts";
import { Ballot, isAgreed, isPanic, mayEject, type PoolMember } from "./agreement.ts";
import { isSlow, judge, slownessOf, slowRatio } from "./detectors.ts";
import type { Ended } from "./ended.ts";
import { Estimator, type Estimate } from "./estimator.ts";
import { OwnPace } from "./own-pace.ts";
import type { Scrape } from "./scrapers/scrape.ts";
import { Standing } from "./standing.ts";

/** Failed liveness calls in a row that count as dead: one may be lost. */
const DEAD_AFTER = 2;
/** Time since the last attempt within which a backend counts as busy, ms. */
const BUSY_FOR_MS = 5_000;

/** What is known of one backend. */
class Entry {
  readonly name: string;
  readonly standing = new Standing();
  readonly estimator: Estimator;
  estimate: Estimate;
  gauges: EngineGauges | undefined;
  loadedModels: readonly string[] = [];
  generation = -1;
  restarts = 0;
  live: boolean | undefined;
  liveAtMs = 0;
  failures = 0;
  attemptAtMs = Number.NEGATIVE_INFINITY;
  readonly ownPace = new OwnPace();
  slowSinceMs: number | undefined;
  slowness = 0;
  poolRatio = 0;

  constructor(name: string, windowMs: number) {
    this.name = name;
    this.estimator = new Estimator(windowMs);
    this.estimate = this.estimator.view(0);
  }

  /** Liveness for verdicts: dead only after several failures. */
  get verdict(): boolean | undefined {
    return this.live === false && this.failures < DEAD_AFTER ? undefined : this.live;
  }
}

/** All backends: takes evidence in, keeps their states, lists them. A function of (evidence, now); reads no clock. */
export class Board {
  readonly #entries = new Map<string, Entry>();
  readonly #ballot = new Ballot();
  readonly #random: Random;
  #config: Config;
  /** Whether something to be published changed since it was last read. */
  #dirty = true;

  constructor(config: Config, random: Random) {
    this.#random = random;
    this.#config = config;
    this.configure(config);
  }

  /** Takes a new configuration; what is known of backends that stay is kept. */
  configure(config: Config): void {
    this.#config = config;
    for (const name of this.#entries.keys()) if (!config.backends.has(name)) this.#entries.delete(name);
    for (const name of config.backends.keys()) {
      if (!this.#entries.has(name)) this.#entries.set(name, new Entry(name, config.resilience.breaker.windowMs));
    }
    this.#dirty = true;
  }

  attempted(backend: string, end: Ended, nowMs: number): void {
    const entry = this.#entries.get(backend);
    if (!entry) return;
    entry.estimator.add(end, nowMs);
    entry.attemptAtMs = nowMs;
    if (end.outcome === Outcome.OK) entry.standing.succeeded();
    this.#dirty = true;
  }

  /** Takes what an engine says of the backends: breakers open, and how fast they are by themselves. */
  voted(message: LoadPublished, nowMs: number): void {
    if (!this.#ballot.receive(message, nowMs)) return;
    for (const load of message.backends) this.#entries.get(load.backend)?.ownPace.heard(message.engine, load, nowMs);
  }

  probed(backend: string, live: boolean, wallMs: number): void {
    const entry = this.#entries.get(backend);
    if (!entry) return;
    if (entry.live !== live) this.#dirty = true;
    entry.live = live;
    entry.failures = live ? 0 : entry.failures + 1;
    if (live) entry.liveAtMs = wallMs;
  }

  scraped(backend: string, scrape: Scrape, wallMs: number): void {
    const entry = this.#entries.get(backend);
    if (!entry) return;
    if (scrape.loadedModels.length > 0 || entry.loadedModels.length > 0) {
      entry.loadedModels = scrape.loadedModels;
      this.#dirty = true;
    }
    if (scrape.generation < 0 && scrape.kvUsage < 0 && scrape.loadedModels.length > 0) return;
    if (scrape.generation >= 0 && scrape.generation < entry.generation) entry.restarts++;
    entry.generation = Math.max(-1, scrape.generation);
    const before = entry.gauges;
    entry.gauges = create(EngineGaugesSchema, {
      running: scrape.running,
      waiting: scrape.waiting,
      kvUsage: scrape.kvUsage,
      kvCapacityTokens: scrape.kvCapacityTokens,
      preemptions: scrape.preemptions,
      scrapedAtMs: wallMs,
      restarts: entry.restarts,
    });
    if (before?.running !== scrape.running || before.waiting !== scrape.waiting || before.kvUsage !== scrape.kvUsage) this.#dirty = true;
  }

  /** Whether the backend should be probed often: some engine has its breaker open, or it is out. */
  isUrgent(backend: string, nowMs: number): boolean {
    const state = this.#entries.get(backend)?.standing.state;
    return state === HealthState.EJECTED || this.#ballot.on(backend, nowMs).open > 0;
  }

  /** Whether attempts ended there lately or its engine has work. */
  isBusy(backend: string, nowMs: number): boolean {
    const entry = this.#entries.get(backend);
    if (!entry) return false;
    return nowMs - entry.attemptAtMs < BUSY_FOR_MS || (entry.gauges?.running ?? 0) + (entry.gauges?.waiting ?? 0) > 0;
  }

  /** Judges every backend. */
  evaluate(nowMs: number): void {
    for (const entry of this.#entries.values()) entry.estimate = entry.estimator.view(nowMs);
    const pools = this.#pools();
    for (const entry of this.#entries.values()) {
      this.#pace(entry, pools, nowMs);
      const votes = this.#ballot.on(entry.name, nowMs);
      const { breaker } = this.#config.resilience;
      const changed = entry.standing.update(
        {
          agreed: isAgreed(votes, entry.verdict),
          votes,
          live: entry.verdict,
          finding: judge(entry.estimate, entry.slowness, entry.slowSinceMs, nowMs),
          mayEject: this.#every(entry, pools, (members) => mayEject(members, entry.name, breaker.maxEjected)),
          panic: !this.#every(entry, pools, (members) => !isPanic(members, breaker.maxEjected)),
        },
        nowMs,
        breaker,
        this.#random,
        () => entry.estimator.forget(),
      );
      if (changed) this.#dirty = true;
    }
  }

  /** Whether something changed since the last call. */
  takeDirty(): boolean {
    const dirty = this.#dirty;
    this.#dirty = false;
    return dirty;
  }

  list(): BackendHealth[] {
    return [...this.#entries.values()].map((entry) => healthOf(entry));
  }

  /** Pools by model: the backends a request can be sent to instead. */
  #pools(): readonly (readonly Entry[])[] {
    return [...this.#config.models.values()].map((model) => model.candidates.flatMap((name) => this.#entries.get(name) ?? []));
  }

  #pace(entry: Entry, pools: readonly (readonly Entry[])[], nowMs: number): void {
    const others = new Set(pools.filter((pool) => pool.includes(entry)).flat());
    others.delete(entry);
    entry.poolRatio = slowRatio(
      entry.estimate,
      [...others].map((other) => other.estimate),
    );
    entry.slowness = slownessOf(entry.estimate, entry.poolRatio, entry.ownPace.slowdown(nowMs));
    if (!isSlow(entry.slowness)) entry.slowSinceMs = undefined;
    else entry.slowSinceMs ??= nowMs;
  }

  /** Whether `holds` for each pool the backend is in; false for a backend in none. */
  #every(entry: Entry, pools: readonly (readonly Entry[])[], holds: (members: readonly PoolMember[]) => boolean): boolean {
    const own = pools.filter((pool) => pool.includes(entry));
    return own.every((pool) => holds(pool.map(({ name, standing }) => ({ backend: name, out: standing.state === HealthState.EJECTED }))));
  }
}

function healthOf({ name, standing, estimate, gauges, live, liveAtMs, poolRatio, loadedModels }: Entry): BackendHealth {
  return create(BackendHealthSchema, {
    backend: name,
    state: standing.state,
    breaker: standing.breaker,
    successRate: estimate.successRate,
    attempts: estimate.attempts,
    ttftP50Ms: estimate.ttftP50Ms,
    ttftP95Ms: estimate.ttftP95Ms,
    tpotP50Ms: estimate.tpotP50Ms,
    ...(gauges ? { gauges } : {}),
    reason: standing.reason,
    liveAtMs,
    live: live ?? false,
    changes: standing.changes,
    slowRatio: poolRatio,
    loadedModels: [...loadedModels],
  });
}
