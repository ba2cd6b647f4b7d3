import { create, fromBinary } from "@bufbuild/protobuf";
import { GetSummaryResponseSchema, type GetSummaryResponse } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import type { Entry, PriceBook } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { ControlAppliedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import type { EventBus, Subscription } from "#libs/bus/bus.ts";
import { SUBJECTS } from "#libs/bus/subjects.ts";
import type { Clock, Random, Timer } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import type { PriceIndex } from "#libs/money/index.ts";
import type { ServiceModule } from "#libs/lifecycle/index.ts";
import type { ControlPeer, EntryFilter, InvoiceComparison, InvoiceQuery, LedgerPeer } from "#libs/peers/index.ts";
import type { Logger, Metrics } from "#libs/telemetry/index.ts";
import { BudgetDesk } from "./budgets/index.ts";
import { Consumer } from "./consumer.ts";
import { Control, type ReplicaStatus } from "./control/index.ts";
import { DESK_PERIOD_MS } from "./experiments/index.ts";
import { IdleDesk } from "./idle.ts";
import { PricePublisher } from "./price-publisher.ts";
import { reconcileInvoice } from "./reconcile.ts";
import { createPostgresStore } from "./store-postgres.ts";
import { ANSWER_KEPT_MS, ScoreDesk } from "./scores/index.ts";
import { SqliteDatabase } from "./sqlite-database.ts";
import { createSqliteStore } from "./store-sqlite.ts";
import type { LedgerStore } from "./store.ts";
import { verifyLedger } from "./verify.ts";

/** What the cost ledger needs. */
export interface CostLedgerDeps {
  readonly config: ConfigSource;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly bus: EventBus;
  /** A store in place of the configured one, for tests. */
  readonly store?: LedgerStore;
}

/** The cost ledger as its own process sees it. */
export interface CostLedgerHost {
  readonly module: ServiceModule;
  readonly ledger: LedgerPeer;
  readonly control: ControlPeer;
}

/** Whole states are pushed again this often, for replicas that missed one. */
const PRICES_PERIOD_MS = 30_000;
const CONTROL_PERIOD_MS = 10_000;
/** How often hours are closed and rent that nobody used is booked, ms. */
const IDLE_PERIOD_MS = 60_000;
/** How often answers that can no longer be scored are forgotten, ms. */
const ANSWERS_PERIOD_MS = 3_600_000;
/** Another replica's change of the control state is noticed within this. */
const CONTROL_POLL_MS = 2_000;
const SQLITE_PREFIX = "sqlite:";
const IN_MEMORY = ":memory:";

/** Builds the service; nothing is opened before `module.start()`. */
export function createCostLedger(deps: CostLedgerDeps): CostLedgerHost {
  const { clock, bus, logger, config } = deps;
  const store = deps.store ?? openStore(deps);
  const prices = new PricePublisher({ store, bus, clock, logger });
  const control = new Control({ store, bus, clock, random: deps.random, config, logger });
  const consumer = new Consumer({ store, bus, prices, clock, logger, metrics: deps.metrics });
  const desk = new BudgetDesk({ config, store, bus, clock, logger });
  const scores = new ScoreDesk({ store, bus, clock });
  const idle = new IdleDesk(store);
  const timers: Timer[] = [];
  let endConfig = (): void => {};
  let applied: Subscription | undefined;

  /** What a store that has just come up is owed. Never rejects: a store that goes again comes again. */
  const onStoreUp = async (): Promise<void> => {
    try {
      await control.refresh();
      control.publish();
      await control.noteModels();
      await prices.save();
    } catch (error) {
      logger.warn({ error: String(error) }, "the ledger's store did not answer");
    }
  };
  const bookIdle = (): void => {
    if (!store.up || prices.index === undefined) return;
    idle
      .closeHours(config.current, (fromMs) => prices.periods(fromMs), clock.now())
      .catch((error: unknown) => {
        logger.warn({ error: String(error) }, "idle time could not be booked; it is tried again");
      });
  };
  const forgetAnswers = (): void => {
    // What is not forgotten now is forgotten an hour later.
    if (store.up) store.forgetAnswers(clock.now() - ANSWER_KEPT_MS).catch(() => undefined);
  };
  const reprice = (): void => {
    prices.rebuild(config.current);
    prices.publish();
  };

  const module: ServiceModule = {
    name: "cost-ledger",
    start: async () => {
      prices.rebuild(config.current);
      let started = false;
      store.onChange((up) => {
        // Who relies on the state learns at once that it is only a memory now.
        if (!up) control.publish();
        else if (started) void onStoreUp();
      });
      await store.start();
      started = true;
      if (store.up) await onStoreUp();
      prices.publish();
      consumer.start();
      bookIdle();
      endConfig = config.onChange(() => {
        reprice();
        if (store.up) void onStoreUp();
      });
      applied = bus.subscribe(SUBJECTS.controlApplied, ({ payload }) => control.applied.heard(appliedOf(payload)));
      timers.push(
        clock.every(DESK_PERIOD_MS, () => void control.desk.tick()),
        clock.every(PRICES_PERIOD_MS, () => prices.publish()),
        clock.every(IDLE_PERIOD_MS, bookIdle),
        clock.every(ANSWERS_PERIOD_MS, forgetAnswers),
        clock.every(CONTROL_PERIOD_MS, () => control.publish()),
        clock.every(CONTROL_POLL_MS, () => store.kind === "postgres" && store.up && void control.poll()),
      );
    },
    drain: async () => {
      consumer.stop();
    },
    stop: async () => {
      consumer.stop();
      endConfig();
      applied?.close();
      for (const timer of timers.splice(0)) timer.cancel();
      await store.stop();
    },
    checks: [
      {
        name: "ledger-store",
        status: () =>
          store.up
            ? { state: "ok", detail: `${store.kind}, append-only by ${store.appendOnly}` }
            : { state: "degraded", detail: `${store.kind} does not answer; records wait in the outboxes` },
      },
      {
        name: "price-book",
        status: () => {
          if (prices.refused !== undefined) return { state: "degraded", detail: prices.refused };
          const missing = prices.unpriced;
          return missing.length === 0 ? { state: "ok" } : { state: "degraded", detail: `no price for ${missing.join(", ")}` };
        },
      },
    ],
  };
  return { module, ledger: ledgerOf(store, prices, desk, scores, clock), control };
}

function appliedOf(payload: Uint8Array): ReplicaStatus {
  return fromBinary(ControlAppliedSchema, payload);
}

function openStore(deps: CostLedgerDeps): LedgerStore {
  const text = deps.config.current.ledger.store.reveal();
  if (!text.startsWith(SQLITE_PREFIX)) return createPostgresStore({ url: text, clock: deps.clock, logger: deps.logger });
  const path = text.slice(SQLITE_PREFIX.length);
  if (path === IN_MEMORY) return new SqliteDatabase(path);
  return createSqliteStore(path, deps.clock);
}

function ledgerOf(store: LedgerStore, prices: PricePublisher, desk: BudgetDesk, scores: ScoreDesk, clock: Clock): LedgerPeer {
  return {
    exportEntries: (filter) => exportAll(store, filter),
    costs: (query) => store.costs(query),
    priceBook: async (): Promise<PriceBook> => prices.book!,
    summary: () => summaryOf(store),
    verify: (progress) => verifyLedger(store, progress),
    reconcile: (query) => reconcile(store, prices, query, clock.now()),
    leaseBudget: (request) => desk.lease(request),
    budgets: (tenant) => desk.list(tenant),
    recordScore: (request) => scores.record(request),
    scores: (experiment) => scores.sums(experiment),
  };
}

/** Compares an invoice with the entries of its period; the prices are those the attempts were admitted under. */
async function reconcile(store: LedgerStore, prices: PricePublisher, query: InvoiceQuery, nowMs: number): Promise<InvoiceComparison> {
  const { sinceMs, untilMs, only } = query;
  const filter = { ...(sinceMs === undefined ? {} : { sinceMs }), ...(untilMs === undefined ? {} : { untilMs }) };
  const entries: Entry[] = [];
  const indexes = new Map<string, PriceIndex | undefined>();
  for await (const batch of exportAll(store, filter)) {
    for (const entry of batch) {
      const { backend, provider, priceVersion } = entry.record!;
      if (only.length > 0 && !only.includes(backend) && !only.includes(provider)) continue;
      entries.push(entry);
      if (!indexes.has(priceVersion)) indexes.set(priceVersion, await prices.versioned(priceVersion));
    }
  }
  return reconcileInvoice(query.lines, entries, (version) => (version === undefined ? prices.index : indexes.get(version)), nowMs);
}

async function* exportAll(store: LedgerStore, filter: EntryFilter): AsyncGenerator<readonly Entry[]> {
  let after = filter.afterSequence ?? 0n;
  for (;;) {
    const batch = await store.exportEntries(filter, after);
    const last = batch.at(-1);
    if (last === undefined) return;
    yield batch;
    after = last.sequence;
  }
}

async function summaryOf(store: LedgerStore): Promise<GetSummaryResponse> {
  const away = create(GetSummaryResponseSchema, { store: store.kind, storeUp: false, appendOnly: store.appendOnly });
  if (!store.up) return away;
  try {
    const totals = await store.totals();
    return create(GetSummaryResponseSchema, { ...totals, store: store.kind, storeUp: true, appendOnly: store.appendOnly });
  } catch {
    return away;
  }
}
