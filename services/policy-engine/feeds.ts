import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type ControlState,
  ControlStateSchema,
  type ExperimentObservation,
  ExperimentObservationSchema,
  type ReportRequest,
  ReportRequestSchema,
} from "#gen/signalbox/control/v1/control_service_pb.ts";
import { ControlAppliedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import { HealthSnapshotSchema } from "#gen/signalbox/health/v1/health_service_pb.ts";
import { PriceBookSchema } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { EventBus, Subscription } from "#libs/bus/bus.ts";
import { SUBJECTS, subjectOf } from "#libs/bus/subjects.ts";
import type { Clock, Timer } from "#libs/clock/index.ts";
import { compilePriceBook } from "#libs/money/index.ts";
import { type AnswerStatus, type ControlPeer, FirstAnswer, firstPrices, type LedgerPeer, type PriceBook } from "#libs/peers/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import type { WatchedState } from "./experiment-watch.ts";
import type { LiveEngine } from "./live-engine.ts";
import type { LoadExchange } from "./load-exchange.ts";

/** Control state is asked for this often: the bus may be silent or away, ms. */
const POLL_MS = 2_000;

/** What was seen of experiments is told this often while there is news, ms: guards act on it. */
const OBSERVE_MS = 1_000;

/** This process, in what replicas tell of themselves. */
const ROLE = "policy-engine";

/** A changed load vector goes out at most this often, ms. */
const LOAD_MS = 50;

/** What the feeds read from and write to. */
export interface FeedDeps {
  readonly bus: EventBus;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly ledger: LedgerPeer;
  readonly control: ControlPeer;
  readonly engineId: string;
}

/** Everything that reaches the engine from outside the decide streams: control state, prices, health, the loads of other engines. */
export class Feeds {
  readonly #deps: FeedDeps;
  readonly #engine: LiveEngine;
  readonly #loads: LoadExchange;
  readonly #prices: FirstAnswer;
  readonly #control: FirstAnswer;
  /** Whether a control state has arrived, or the word that there is none yet. */
  #controlHeard = false;
  readonly #subscriptions: Subscription[] = [];
  readonly #timers: Timer[] = [];
  #polling = false;

  constructor(deps: FeedDeps, engine: LiveEngine, loads: LoadExchange) {
    this.#deps = deps;
    this.#engine = engine;
    this.#loads = loads;
    this.#prices = firstPrices({
      clock: deps.clock,
      ledger: deps.ledger,
      loaded: () => engine.hasPrices,
      adopt: (book) => this.#setPrices(book),
      failed: (cause) => deps.logger.debug({ err: cause }, "the price book is not available yet"),
    });
    this.#control = new FirstAnswer(deps.clock, {
      missing: "no control state yet",
      answered: () => this.#controlHeard,
      ask: () => this.#poll(),
    });
  }

  /** Readiness as far as prices go. */
  pricesStatus(): AnswerStatus {
    return this.#prices.status();
  }

  /** Readiness as far as drains, experiments and rollbacks go. */
  controlStatus(): AnswerStatus {
    return this.#control.status();
  }

  /** Subscribes and asks once; resolves when the first answers are in or failed. */
  async start(): Promise<void> {
    const { clock } = this.#deps;
    this.#subscribe(SUBJECTS.controlChanged, (payload) => this.#setControl(fromBinary(ControlStateSchema, payload)));
    this.#subscribe(SUBJECTS.pricePublished, (payload) => this.#setPrices(fromBinary(PriceBookSchema, payload)));
    this.#subscribe(SUBJECTS.healthPublished, (payload) => this.#engine.setHealth(fromBinary(HealthSnapshotSchema, payload)));
    this.#subscribe(`${SUBJECTS.loadPublished}.*`, (payload) => this.#loads.receive(payload, clock.monotonicMs()));
    this.#timers.push(clock.every(LOAD_MS, () => this.#exchangeLoads()));
    this.#timers.push(clock.every(POLL_MS, () => void this.#poll()));
    this.#timers.push(clock.every(OBSERVE_MS, () => void this.#observe()));
    await Promise.all([this.#prices.start(), this.#control.start()]);
  }

  /** Ends everything. */
  stop(): void {
    for (const subscription of this.#subscriptions.splice(0)) subscription.close();
    this.#prices.stop();
    this.#control.stop();
    for (const timer of this.#timers.splice(0)) timer.cancel();
  }

  #subscribe(subject: string, take: (payload: Uint8Array) => void): void {
    const subscription = this.#deps.bus.subscribe(subject, ({ payload }) => {
      try {
        take(payload);
      } catch (cause) {
        this.#deps.logger.warn({ subject, err: cause }, "unusable message on the bus");
      }
    });
    this.#subscriptions.push(subscription);
  }

  /** Takes over what is newer and says so at once: whoever changed it waits to hear. */
  #setControl(state: ControlState): boolean {
    this.#controlHeard = true;
    const before = this.#engine.controlRevision;
    this.#engine.setControl(state);
    const revision = this.#engine.controlRevision;
    if (revision === before) return false;
    const { bus, engineId: replica } = this.#deps;
    const applied = create(ControlAppliedSchema, { replica, role: ROLE, revision, appliedAtMs: this.#engine.controlAtMs });
    bus.publish(SUBJECTS.controlApplied, toBinary(ControlAppliedSchema, applied));
    return true;
  }

  #report(observations: ReportRequest["observations"] = []): ReportRequest {
    return create(ReportRequestSchema, {
      replica: this.#deps.engineId,
      role: ROLE,
      appliedRevision: this.#engine.controlRevision,
      appliedAtMs: this.#engine.controlAtMs,
      observations,
    });
  }

  /** Tells what was seen of experiments; what did not arrive is told again, whole. */
  async #observe(): Promise<void> {
    const news = this.#engine.experiments.takeNews();
    if (news.length === 0) return;
    try {
      const state = await this.#deps.control.report(this.#report(news.map(observationOf)));
      if (state !== undefined) this.#setControl(state);
    } catch {
      this.#engine.experiments.tellNewsAgain();
    }
  }

  #setPrices(book: PriceBook): void {
    this.#engine.setPrices(compilePriceBook(book));
  }

  #exchangeLoads(): void {
    const { bus, clock, engineId } = this.#deps;
    const nowMs = clock.monotonicMs();
    const outgoing = this.#loads.outgoing(this.#engine.snapshot, nowMs);
    if (outgoing !== undefined) bus.publish(subjectOf(SUBJECTS.loadPublished, engineId), outgoing);
    if (this.#loads.peers > 0 || this.#engine.state.loadsStale) this.#loads.refresh(nowMs, bus.connected);
  }

  async #poll(): Promise<void> {
    if (this.#polling) return;
    this.#polling = true;
    try {
      const answer = await this.#deps.control.report(this.#report()).then(
        (state) => ({ state }),
        () => undefined,
      );
      if (answer === undefined) return;
      this.#controlHeard = true;
      const { state } = answer;
      // The bus may be away: then only another report tells that the state has arrived.
      if (state !== undefined && this.#setControl(state)) await this.#deps.control.report(this.#report());
    } catch (cause) {
      this.#deps.logger.warn({ err: cause }, "unusable control state");
    } finally {
      this.#polling = false;
    }
  }
}

function observationOf({ name, run, revision, arms }: WatchedState): ExperimentObservation {
  return create(ExperimentObservationSchema, {
    name,
    run,
    revision: BigInt(revision),
    arms: Array.from(arms, ([arm, { units, metrics }]) => ({ arm, units, metrics: Object.fromEntries(metrics) })),
  });
}
