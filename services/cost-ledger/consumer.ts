import { create, toBinary } from "@bufbuild/protobuf";
import { EntriesCommittedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import type { AttemptRecord } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { BusMessage, EventBus, Subscription } from "#libs/bus/bus.ts";
import { SUBJECTS, subjectOf } from "#libs/bus/subjects.ts";
import type { Clock } from "#libs/clock/index.ts";
import type { PriceIndex } from "#libs/money/index.ts";
import { encodeAttemptRecord } from "#libs/outbox/index.ts";
import type { Logger, Metrics } from "#libs/telemetry/index.ts";
import { decodeRecordBatch, priceRecord, type CheckedRecord, type ReceivedRecord, type RecordBatch } from "./entries/index.ts";
import { type Correction, Outcomes, realRecord } from "./outcomes.ts";
import type { PricePublisher } from "./price-publisher.ts";
import { storeUnavailable, type LedgerStore } from "./store.ts";

/** Name of the durable consumer: one over all replicas. */
const DURABLE = "cost-ledger";
/** After a transaction the next one gathers this long, ms: a commit costs as much for one entry as for a hundred, and nobody waits for it. */
const GATHER_MS = 200;
/** Messages of a delivery that shows a backlog: then the next transaction follows at once. */
const BACKLOG_MESSAGES = 32;
/** Records a transaction gathers before it begins: the work that does not grow with them (a sync, sums per group) is shared by so many. */
const TRANSACTION_RECORDS = 8_000;
/** Records of one transaction at most: a message is bounded by its bytes, and records can be small. */
const TRANSACTION_MAX_RECORDS = 16_000;

/** What the consumer needs. */
export interface ConsumerDeps {
  readonly bus: EventBus;
  readonly store: LedgerStore;
  readonly prices: PricePublisher;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/**
 * Books what the outboxes send, and tells each outbox when its batch is durable. A batch waits for a store that is away and
 * is booked as soon as it is back; another failure rejects it, and the bus brings it again. Nothing else waits.
 */
export class Consumer {
  readonly #deps: ConsumerDeps;
  readonly #outcomes = new Outcomes();
  readonly #booked;
  readonly #duplicates;
  readonly #differing;
  readonly #unpriced;
  readonly #malformed;
  #subscriptions: Subscription[] = [];
  /** Batches that wait for the store. */
  #held: (() => void)[] = [];
  #stopped = false;

  constructor(deps: ConsumerDeps) {
    this.#deps = deps;
    const { metrics } = deps;
    this.#booked = metrics.counter("signalbox_ledger_entries_total", "Entries booked.").with();
    this.#duplicates = metrics.counter("signalbox_ledger_duplicates_total", "Records refused because their attempt is booked.").with();
    this.#differing = metrics
      .counter("signalbox_ledger_cost_corrections_total", "Entries whose stated cost was not the ledger's own.")
      .with();
    this.#unpriced = metrics.counter("signalbox_ledger_unpriced_total", "Entries that used something without a price.").with();
    this.#malformed = metrics.counter("signalbox_ledger_malformed_total", "Messages that were not records.").with();
  }

  start(): void {
    const { bus, store } = this.#deps;
    store.onChange((up) => up && this.#release());
    this.#subscriptions = [
      bus.consume(SUBJECTS.entryRecorded, DURABLE, (batch) => this.#book(batch)),
      bus.subscribe(SUBJECTS.attemptCompleted, (message) => this.#onCompleted(message.payload)),
    ];
  }

  stop(): void {
    this.#stopped = true;
    for (const subscription of this.#subscriptions.splice(0)) subscription.close();
    this.#release();
  }

  #release(): void {
    for (const release of this.#held.splice(0)) release();
  }

  /** Resolves when the store is there; rejects when this consumer stops. The bus would bring a rejected batch back half a minute late. */
  async #storeUp(): Promise<void> {
    while (!this.#deps.store.up && !this.#stopped) await new Promise<void>((resolve) => this.#held.push(resolve));
    if (this.#stopped) throw storeUnavailable(new Error("the ledger stops"));
  }

  /** While the store books one transaction, the next one's records are read and priced. */
  async #book(messages: readonly BusMessage[]): Promise<void> {
    let booking: Promise<void> = Promise.resolve();
    let batches: RecordBatch[] = [];
    let checked: CheckedRecord[] = [];
    let booked = false;
    const next = async (): Promise<void> => {
      const [theirs, records] = [batches, checked];
      [batches, checked, booked] = [[], [], true];
      await booking;
      booking = this.#bookBatches(theirs, records);
      // Whoever waits for it hears of its failure.
      booking.catch(() => undefined);
    };
    for (const message of messages) {
      const batch = this.#decode(message.payload);
      if (batch === undefined) continue;
      batches.push(batch);
      for (const each of await this.#check(batch.records)) checked.push(each);
      if (checked.length >= TRANSACTION_RECORDS) await next();
      // The transaction that runs gets its turn between messages.
      if (booked) await new Promise<void>((resolve) => void setImmediate(resolve));
    }
    if (batches.length === 0) return booking;
    await next();
    await booking;
    if (messages.length < BACKLOG_MESSAGES) await this.#deps.clock.sleep(GATHER_MS);
  }

  async #bookBatches(batches: readonly RecordBatch[], checked: readonly CheckedRecord[]): Promise<void> {
    for (let at = 0; at < checked.length; at += TRANSACTION_MAX_RECORDS) {
      const records = checked.slice(at, at + TRANSACTION_MAX_RECORDS);
      await this.#untilStoreIsUp(() => this.#bookRecords(records));
    }
    for (const batch of batches) this.#confirm(batch);
  }

  /** Does `work` now, or when a store that went away meanwhile is back: a transaction whose end nobody saw only finds duplicates. */
  async #untilStoreIsUp<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      await this.#storeUp();
      try {
        return await work();
      } catch (error) {
        if (this.#deps.store.up || this.#stopped) throw error;
      }
    }
  }

  /** Prices records as they are to be booked. */
  async #check(records: readonly ReceivedRecord[]): Promise<readonly CheckedRecord[]> {
    const indexes = await this.#untilStoreIsUp(() => this.#indexesFor(records));
    return records.map(({ record, encoded }) => {
      const index = indexes.get(record.priceVersion);
      const priced = priceRecord(this.#outcomes.settle(record, index), index);
      return priced.record === record ? { ...priced, encoded } : priced;
    });
  }

  async #bookRecords(checked: readonly CheckedRecord[]): Promise<void> {
    const { store, clock, logger } = this.#deps;
    const result = await store.book(checked, clock.now());
    this.#booked.add(result.entries);
    this.#duplicates.add(result.duplicates);
    for (const each of checked) this.#correct(each);
    this.#alarm(checked);
    if (logger.debugEnabled) logger.debug({ entries: result.entries, duplicates: result.duplicates }, "booked");
  }

  async #indexesFor(records: readonly ReceivedRecord[]): Promise<ReadonlyMap<string, PriceIndex>> {
    const indexes = new Map<string, PriceIndex>();
    for (const version of new Set(records.map(({ record }) => record.priceVersion))) {
      const index = await this.#deps.prices.versioned(version);
      if (index) indexes.set(version, index);
    }
    return indexes;
  }

  /** One line a backend and transaction: there may be thousands of such attempts a second. */
  #alarm(checked: readonly CheckedRecord[]): void {
    const backends = new Map<string, number>();
    for (const { record } of checked) if (record.unpriced) backends.set(record.backend, (backends.get(record.backend) ?? 0) + 1);
    for (const [backend, attempts] of backends) {
      this.#unpriced.add(attempts);
      this.#deps.logger.warn({ backend, attempts }, "attempts used something without a price: their cost is not complete");
    }
  }

  #correct({ record, differenceNanoUsd }: CheckedRecord): void {
    if (differenceNanoUsd === 0n) return;
    this.#differing.add();
    this.#deps.logger.warn(
      { attempt_id: record.attemptId, difference_nano_usd: String(differenceNanoUsd) },
      "an attempt's stated cost was corrected",
    );
  }

  #confirm(batch: RecordBatch): void {
    const message = create(EntriesCommittedSchema, {
      outbox: batch.outbox,
      upToSequence: batch.lastSequence,
      afterSequence: batch.afterSequence,
    });
    this.#deps.bus.publish(subjectOf(SUBJECTS.entryCommitted, batch.outbox), toBinary(EntriesCommittedSchema, message));
  }

  /** Bytes that are no batch would come back for ever: they are counted, logged and let go. Their records are still in the outbox. */
  #decode(payload: Uint8Array): RecordBatch | undefined {
    try {
      return decodeRecordBatch(payload);
    } catch (error) {
      this.#malformed.add();
      this.#deps.logger.error({ error: String(error), bytes: payload.length }, "a ledger message could not be read");
      return undefined;
    }
  }

  #onCompleted(payload: Uint8Array): void {
    for (const { estimate, attempt } of this.#outcomes.arrived(payload)) {
      this.#replace(estimate, attempt).catch((error: unknown) => {
        this.#deps.logger.warn({ error: String(error), attempt_id: estimate.attemptId }, "an estimate could not be replaced");
      });
    }
  }

  async #replace(estimate: AttemptRecord, attempt: Correction["attempt"]): Promise<void> {
    const index = await this.#deps.prices.versioned(estimate.priceVersion);
    if (index === undefined) return;
    const record = realRecord(estimate, attempt, index);
    await this.#bookRecords(await this.#check([{ record, encoded: encodeAttemptRecord(record) }]));
  }
}
