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
/** The same while the ledger is silent: nobody is served by many small messages that wait together. */
const GATHER_SILENT_MS = 1_000;
/** A ledger that has work and commits nothing for this long is silent, ms: several of its transactions. */
const SILENT_MS = 2_000;
/** Silence after which the ledger is asked; doubles up to the maximum, because a durable bus seldom loses any. */
const PROBE_MS = 10_000;
const PROBE_MAX_MS = 300_000;
/** After the bus came back it may have lost its store: the ledger is asked this much later, and again when the bus did not take the question. */
const RECONNECT_PROBE_MS = 1_000;
/** Records a question holds: no batch that begins where it does ends where it does, so its commit is told from theirs. */
const PROBE_MAX_RECORDS = BATCH_MAX_RECORDS - 1;
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

/**
 * Carries booked records to the ledger until it says that they are durable there. The bus is transport, never truth: after a
 * silence the oldest records are sent once more, as a question. The bus keeps the order, so once those are committed, what was
 * sent before them and is not has been lost, and is sent again. A ledger whose store is away answers late, and gets nothing twice.
 */
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
  /** Counts what is sent again: the bus must not take it for duplicates. */
  #generation = 0;
  /** The records last sent as a question, and how far everything had been handed to the bus before. */
  #probe: { readonly after: number; readonly last: number; readonly shipped: number } | undefined;
  #pumping = false;
  #gathering = false;
  #stopped = false;
  #retryMs = RETRY_MS;
  #retryTimer: Timer | undefined;
  #probeMs = PROBE_MS;
  #progressAtMs: number;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #questions = 0;
  /** Committed ranges (after, last] beyond the contiguous ones. */
  #ahead: { readonly after: number; readonly last: number }[] = [];

  constructor(deps: ShipperDeps) {
    this.#deps = deps;
    const { bus, clock, outbox } = deps;
    this.#progressAtMs = clock.monotonicMs();
    this.#subscriptions = [
      bus.subscribe(subjectOf(SUBJECTS.entryCommitted, outbox.id), (message) => this.#onCommitted(message.payload)),
      bus.onConnection((connected) => {
        if (connected) clock.after(RECONNECT_PROBE_MS, () => this.#ask());
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
    const silent = this.#shipped > this.#deps.outbox.committed && this.#silentMs > SILENT_MS;
    this.#deps.clock.after(silent ? GATHER_SILENT_MS : GATHER_MS, () => {
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
    const range = { after: Number(message.afterSequence), last: Number(message.upToSequence) };
    this.#ahead.push(range);
    let reached = outbox.committed;
    this.#ahead.sort((a, b) => a.after - b.after);
    for (const each of this.#ahead) if (each.after <= reached) reached = Math.max(reached, each.last);
    this.#ahead = this.#ahead.filter((each) => each.last > reached).slice(-AHEAD_MAX);
    if (reached > outbox.committed) {
      this.#progressAtMs = clock.monotonicMs();
      this.#probeMs = PROBE_MS;
      this.#shipped = Math.max(this.#shipped, reached);
      outbox.commit(reached);
    }
    this.#onAnswer(range);
    this.#start();
  }

  /** Sends again what was sent before the question and is still not committed now that the question is. */
  #onAnswer({ after, last }: { readonly after: number; readonly last: number }): void {
    const probe = this.#probe;
    if (probe === undefined || probe.after !== after || probe.last !== last) return;
    this.#probe = undefined;
    const { outbox, clock } = this.#deps;
    if (outbox.committed >= probe.shipped) return;
    this.#generation++;
    this.#shipped = outbox.committed;
    this.#progressAtMs = clock.monotonicMs();
  }

  /** How long nothing has been committed, ms. */
  get #silentMs(): number {
    return this.#deps.clock.monotonicMs() - this.#progressAtMs;
  }

  #lookForSilence(): void {
    const unansweredMs = Math.min(this.#silentMs, this.#deps.clock.monotonicMs() - this.#askedAtMs);
    if (this.#shipped <= this.#deps.outbox.committed || unansweredMs < this.#probeMs) return;
    this.#probeMs = Math.min(PROBE_MAX_MS, this.#probeMs * 2);
    this.#ask();
  }

  /** Asks the ledger by sending the oldest un-committed records once more. */
  #ask(): void {
    const { outbox, bus, clock } = this.#deps;
    const after = outbox.committed;
    const batch = this.#stopped || this.#shipped <= after ? [] : outbox.read(after, PROBE_MAX_RECORDS, BATCH_MAX_BYTES);
    if (batch.length === 0) return;
    this.#askedAtMs = clock.monotonicMs();
    const probe = { after, last: batch.at(-1)!.sequence, shipped: this.#shipped };
    this.#probe = probe;
    const id = `${outbox.id}:${after}-${probe.last}:question-${++this.#questions}`;
    bus.publishDurable(SUBJECTS.entryRecorded, encodeBatch(outbox.id, after, batch), id).catch(() => {
      // A bus that is away is asked when it is back.
      if (bus.connected) clock.after(RECONNECT_PROBE_MS, () => this.#probe === probe && this.#ask());
    });
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
