import { create } from "@bufbuild/protobuf";
import { GetSummaryResponseSchema, type GetSummaryResponse } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import type { Entry, PriceBook } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { EventBus } from "#libs/bus/bus.ts";
import type { Clock, Random, Timer } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import type { ServiceModule } from "#libs/lifecycle/index.ts";
import type { ControlPeer, EntryFilter, LedgerPeer } from "#libs/peers/index.ts";
import type { Logger, Metrics } from "#libs/telemetry/index.ts";
import { Consumer } from "./consumer.ts";
import { Control } from "./control/index.ts";
import { PricePublisher } from "./price-publisher.ts";
import { createPostgresStore } from "./store-postgres.ts";
import { SqliteDatabase } from "./sqlite-database.ts";
import { createSqliteStore } from "./store-sqlite.ts";
import type { LedgerStore } from "./store.ts";

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
/** Another replica's change of the control state is noticed within this. */
const CONTROL_POLL_MS = 2_000;
const SQLITE_PREFIX = "sqlite:";
const IN_MEMORY = ":memory:";

/** Builds the service; nothing is opened before `module.start()`. */
export function createCostLedger(deps: CostLedgerDeps): CostLedgerHost {
  const { clock, bus, logger, config } = deps;
  const store = deps.store ?? openStore(deps);
  const prices = new PricePublisher({ store, bus, clock, logger });
  const control = new Control({ store, bus, clock, random: deps.random, config });
  const consumer = new Consumer({ store, bus, prices, clock, logger, metrics: deps.metrics });
  const timers: Timer[] = [];
  let endConfig = (): void => {};

  /** What a store that has just come up is owed. */
  const onStoreUp = async (): Promise<void> => {
    await control.refresh();
    await prices.save();
  };
  const tryStoreUp = (): void => {
    onStoreUp().catch((error: unknown) => logger.warn({ error: String(error) }, "the ledger's store did not answer"));
  };
  const reprice = (): void => {
    prices.rebuild(config.current);
    prices.publish();
  };

  const module: ServiceModule = {
    name: "cost-ledger",
    start: async () => {
      prices.rebuild(config.current);
      store.onChange((up) => up && tryStoreUp());
      await store.start();
      if (store.up) await onStoreUp();
      prices.publish();
      consumer.start();
      endConfig = config.onChange(() => {
        reprice();
        if (store.up) tryStoreUp();
      });
      timers.push(
        clock.every(PRICES_PERIOD_MS, () => prices.publish()),
        clock.every(CONTROL_PERIOD_MS, () => control.publish()),
        clock.every(CONTROL_POLL_MS, () => store.kind === "postgres" && store.up && tryRefresh(control)),
      );
    },
    drain: async () => {
      consumer.stop();
    },
    stop: async () => {
      consumer.stop();
      endConfig();
      for (const timer of timers.splice(0)) timer.cancel();
      await store.stop();
    },
    checks: [
      {
        name: "ledger-store",
        status: () =>
          store.up ? { state: "ok" } : { state: "degraded", detail: `${store.kind} does not answer; records wait in the outboxes` },
      },
      {
        name: "price-book",
        status: () => (prices.refused === undefined ? { state: "ok" } : { state: "degraded", detail: prices.refused }),
      },
    ],
  };
  return { module, ledger: ledgerOf(store, prices), control };
}

function tryRefresh(control: Control): void {
  // A store that is away says so through its own `up`; the next poll tries again.
  control.refresh().catch(() => undefined);
}

function openStore(deps: CostLedgerDeps): LedgerStore {
  const text = deps.config.current.ledger.store.reveal();
  if (!text.startsWith(SQLITE_PREFIX)) return createPostgresStore({ url: text, clock: deps.clock, logger: deps.logger });
  const path = text.slice(SQLITE_PREFIX.length);
  if (path === IN_MEMORY) return new SqliteDatabase(path);
  return createSqliteStore(path);
}

function ledgerOf(store: LedgerStore, prices: PricePublisher): LedgerPeer {
  return {
    exportEntries: (filter) => exportAll(store, filter),
    costs: (query) => store.costs(query),
    priceBook: async (): Promise<PriceBook> => prices.book!,
    summary: () => summaryOf(store),
  };
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
  const away = create(GetSummaryResponseSchema, { store: store.kind, storeUp: false });
  if (!store.up) return away;
  try {
    const totals = await store.totals();
    return create(GetSummaryResponseSchema, { ...totals, store: store.kind, storeUp: true });
  } catch {
    return away;
  }
}
