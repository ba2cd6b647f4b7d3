import { fromBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { EntriesCommittedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import type { EventBus, Subscription } from "#libs/bus/bus.ts";
import { SUBJECTS, subjectOf } from "#libs/bus/subjects.ts";
import type { Clock, Timer } from "#libs/clock/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import type { Outbox, StoredRecord } from "./outbox.ts";

/** Records in one message: some 200 KiB, well below the bus's 1 MiB. */
const BATCH_MAX_RECORDS = 500;
const BATCH_MAX_BYTES = 512 * 1024;
/** Sequences on their way at once: beyond it the disk keeps them, not the bus. */
const WINDOW_SEQUENCES = 50_000;
/** How long new records gather before they are sent, ms: after an outage the ledger's pace is that of messages, not of records. */
const GATHER_MS = 50;
/** Silence after which un-committed records are sent again; doubles up to the maximum, because a durable bus seldom loses any. */
const RESEND_MS = 10_000;
const RESEND_MAX_MS = 300_000;
/** After the bus came back it may have lost its store: what is not committed is sent again this much later. */
const RECONNECT_RESEND_MS = 1_000;
/** Between attempts to publish; doubles up to the maximum. */
const RETRY_MS = 100;
const RETRY_MAX_MS = 5_000;
/** How often silence is noticed. */
const WATCH_MS = 1_000;
/** Commits that arrived ahead of a missing one; beyond it the oldest is forgotten and its batch sent again. */
const AHEAD_MAX = 1_024;

/** What a shipper needs. */
export interface ShipperDeps {
  readonly outbox: Outbox;
  readonly bus: EventBus;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Carries booked records to the ledger until it says that they are durable there. The bus is transport, never truth. */
export interface Shipper {
  /** Booked records not yet committed: true while some are. */
  readonly pending: boolean;
  stop(): void;
}

/** Starts shipping: everything un-committed first, then whatever is appended. */
export function createShipper(deps: ShipperDeps): Shipper {
  return new OutboxShipper(deps);
}

class OutboxShipper implements Shipper {
  readonly #deps: ShipperDeps;
  readonly #subscriptions: Subscription[];
  readonly #watch: Timer;
  /** Everything up to here has been handed to the bus. */
  #shipped = 0;
  /** Counts resends: the bus must not take them for duplicates. */
  #generation = 0;
  #pumping = false;
  #gathering = false;
  #stopped = false;
  #retryMs = RETRY_MS;
  #retryTimer: Timer | undefined;
  #resendMs = RESEND_MS;
  #progressAtMs: number;
  /** Committed ranges (after, last] beyond the contiguous ones. */
  #ahead: { readonly after: number; readonly last: number }[] = [];

  constructor(deps: ShipperDeps) {
    this.#deps = deps;
    const { bus, clock, outbox } = deps;
    this.#progressAtMs = clock.monotonicMs();
    this.#subscriptions = [
      bus.subscribe(subjectOf(SUBJECTS.entryCommitted, outbox.id), (message) => this.#onCommitted(message.payload)),
      bus.onConnection((connected) => {
        if (connected) clock.after(RECONNECT_RESEND_MS, () => this.#resend());
      }),
    ];
    this.#watch = clock.every(WATCH_MS, () => this.#lookForSilence());
    outbox.onBooked(() => this.#startSoon());
    this.#start();
  }

  get pending(): boolean {
    return this.#deps.outbox.committed < this.#deps.outbox.lastBooked;
  }

  stop(): void {
    this.#stopped = true;
    this.#watch.cancel();
    this.#retryTimer?.cancel();
    for (const subscription of this.#subscriptions) subscription.close();
  }

  #start(): void {
    if (this.#pumping || this.#stopped || this.#retryTimer !== undefined) return;
    this.#pumping = true;
    this.#pump().then(
      () => (this.#pumping = false),
      (error: unknown) => {
        this.#pumping = false;
        this.#deps.logger.warn({ error: String(error), retry_ms: this.#retryMs }, "ledger records wait for the bus");
        this.#retryTimer = this.#deps.clock.after(this.#retryMs, () => {
          this.#retryTimer = undefined;
          this.#start();
        });
        this.#retryMs = Math.min(RETRY_MAX_MS, this.#retryMs * 2);
      },
    );
  }

  /** New records wait a moment for company: a message costs as much for one as for a hundred, and nobody waits for it. */
  #startSoon(): void {
    if (this.#pumping || this.#gathering || this.#stopped) return;
    this.#gathering = true;
    this.#deps.clock.after(GATHER_MS, () => {
      this.#gathering = false;
      this.#start();
    });
  }

  async #pump(): Promise<void> {
    const { outbox, bus } = this.#deps;
    while (!this.#stopped && this.#shipped - outbox.committed < WINDOW_SEQUENCES) {
      const after = this.#shipped;
      const batch = outbox.read(after, BATCH_MAX_RECORDS, BATCH_MAX_BYTES);
      if (batch.length === 0) return;
      const last = batch.at(-1)!.sequence;
      const generation = this.#generation;
      if (after <= outbox.committed) this.#progressAtMs = this.#deps.clock.monotonicMs();
      await bus.publishDurable(SUBJECTS.entryRecorded, encodeBatch(outbox.id, after, batch), `${outbox.id}:${after}-${last}:${generation}`);
      this.#retryMs = RETRY_MS;
      // A resend that began meanwhile starts over from further back.
      if (generation === this.#generation) this.#shipped = Math.max(this.#shipped, last);
    }
  }

  #onCommitted(payload: Uint8Array): void {
    const { outbox, clock } = this.#deps;
    const message = fromBinary(EntriesCommittedSchema, payload);
    this.#ahead.push({ after: Number(message.afterSequence), last: Number(message.upToSequence) });
    let reached = outbox.committed;
    this.#ahead.sort((a, b) => a.after - b.after);
    for (const range of this.#ahead) if (range.after <= reached) reached = Math.max(reached, range.last);
    this.#ahead = this.#ahead.filter((range) => range.last > reached).slice(-AHEAD_MAX);
    if (reached <= outbox.committed) return;
    this.#progressAtMs = clock.monotonicMs();
    this.#resendMs = RESEND_MS;
    this.#shipped = Math.max(this.#shipped, reached);
    outbox.commit(reached);
    this.#start();
  }

  #lookForSilence(): void {
    if (this.#shipped <= this.#deps.outbox.committed || this.#deps.clock.monotonicMs() - this.#progressAtMs < this.#resendMs) return;
    this.#resendMs = Math.min(RESEND_MAX_MS, this.#resendMs * 2);
    this.#resend();
  }

  #resend(): void {
    const { outbox, clock } = this.#deps;
    if (this.#stopped || this.#shipped <= outbox.committed) return;
    this.#generation++;
    this.#shipped = outbox.committed;
    this.#progressAtMs = clock.monotonicMs();
    this.#start();
  }
}

/** An EntriesRecorded whose records are already encoded. */
function encodeBatch(outbox: string, after: number, batch: readonly StoredRecord[]): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(1, WireType.LengthDelimited).string(outbox);
  writer.tag(2, WireType.Varint).uint64(batch.at(-1)!.sequence);
  for (const record of batch) writer.tag(3, WireType.LengthDelimited).bytes(record.payload);
  if (after > 0) writer.tag(5, WireType.Varint).uint64(after);
  return writer.finish();
}
