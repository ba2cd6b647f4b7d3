import type { AttemptRecord } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { RecordKind } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { Clock } from "#libs/clock/index.ts";
import type { OutboxFiles } from "./files.ts";
import { FRAME_HEADER_BYTES, scanFrames, sealFrame, SEGMENT_MAGIC } from "./frame.ts";
import { decodeRecord, expiredFrom, isBooked, recover, type RecoveryReport, type SegmentState } from "./recovery.ts";
import { encodeRecord, recordBytesMax } from "./record-codec.ts";
import { Storage, type Chunk } from "./storage.ts";

/** Who waits for the disk: strict = dispatch, overlapped = the answer's end, relaxed = nobody. */
export type Durability = "strict" | "overlapped" | "relaxed";

/** How an outbox behaves. */
export interface OutboxOptions {
  /** Unique per opening: commits of an earlier life must not trim this one's records. */
  readonly id: string;
  readonly files: OutboxFiles;
  readonly clock: Clock;
  readonly durability: Durability;
  /** Disk space it may use, bytes. */
  readonly maxBytes: number;
  /** block: takes nothing new when full or failing. memory: goes on in memory, within a bound, and says so. */
  readonly onFull: "block" | "memory";
  /** Runs a callback at the end of the tick; setImmediate by default. */
  readonly defer?: (callback: () => void) => void;
}

/** Called when what was appended before is written, or durable; with an error when the disk refused it. */
export type OutboxCallback = (error?: Error) => void;

/** A record read back for shipping. */
export interface StoredRecord {
  readonly sequence: number;
  /** Encoded AttemptRecord. */
  readonly payload: Uint8Array;
}

/** An attempt's money between the ingress and the ledger: an append-only, bounded log on the local disk. */
export interface Outbox {
  readonly id: string;
  /**
   * Takes a record and returns its sequence. The bytes of one tick leave in one write(2) at its end; ask
   * `beforeDispatch` or `whenWritten` when that has happened. Never throws: settlements are taken even when full.
   */
  append(record: AttemptRecord): number;
  /** Writes now what the tick has gathered. */
  flush(): void;
  /** After write(2) of everything appended so far: survives the death of this process. Never synchronous while something is unwritten. */
  whenWritten(callback: OutboxCallback): void;
  /** After fdatasync(2) of everything appended so far: survives the death of the machine. */
  whenDurable(callback: OutboxCallback): void;
  /** When the intent's bytes may go upstream: durable in `strict`, else written. */
  beforeDispatch(callback: OutboxCallback): void;
  /** When the answer may be ended: at once in `relaxed`, else durable. */
  beforeAnswer(callback: OutboxCallback): void;
  /** False when nothing new should start: full or failing in `block`, memory spent in `memory`. */
  readonly accepting: boolean;
  readonly durability: Durability;
  /** Booked records (POST, EXPIRE) above `after`, in order, up to the limits; the first is returned whatever its size. */
  read(after: number, maxRecords: number, maxBytes: number): readonly StoredRecord[];
  /** Everything up to `sequence` is in the ledger: its segments can go. */
  commit(sequence: number): void;
  /** Calls `listener` after each write that holds booked records. */
  onBooked(listener: () => void): void;
  readonly lastBooked: number;
  readonly committed: number;
  readonly stats: OutboxStats;
  readonly recovery: RecoveryReport;
  /** Writes, syncs, removes what is committed, and gives the folder up. */
  close(): Promise<void>;
}

/** Figures for metrics and readiness. */
export interface OutboxStats {
  readonly diskBytes: number;
  readonly memoryBytes: number;
  readonly openIntents: number;
  readonly writeErrors: number;
  readonly syncErrors: number;
}

/** Room for one tick's records; a tick that needs more takes another. */
const SLAB_BYTES = 64 * 1024;
/** Disk use, as a share of the bound, from which long-running attempts' intents are written again so that old segments can go. */
const RELOG_SHARE = 0.5;

/** Opens the outbox in `files`: reads back what is there and appends an EXPIRE for every intent that never ended. Throws when the folder cannot be used. */
export function openOutbox(options: OutboxOptions): Outbox {
  return new FileOutbox(options);
}

interface Waiter {
  readonly sequence: number;
  readonly callback: OutboxCallback;
}

class FileOutbox implements Outbox {
  readonly id: string;
  readonly durability: Durability;
  readonly recovery: RecoveryReport;
  readonly #options: OutboxOptions;
  readonly #storage: Storage;
  readonly #defer: (callback: () => void) => void;
  /** Attempts without an end, by the sequence of their intent, oldest first. */
  readonly #openIntents = new Map<string, number>();
  /** Attempts whose end is written but may still be lost: until it is durable, their intent must stay. In order of the end. */
  #ending: { readonly attemptId: string; readonly sequence: number }[] = [];
  readonly #bookedListeners: (() => void)[] = [];
  #slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
  #slabStart = 0;
  #slabAt = 0;
  #pendingFirst = 0;
  #pendingBooked = 0;
  #flushDeferred = false;
  #last: number;
  #lastBooked = 0;
  #committed = 0;
  #writtenWaiters: OutboxCallback[] = [];
  #writeError: Error | undefined;
  #toldBooked = 0;
  /** Nothing is removed before this is durable: intents that were written again. */
  #trimAfter = 0;
  #durableWaiters: Waiter[] = [];

  constructor(options: OutboxOptions) {
    this.id = options.id;
    this.durability = options.durability;
    this.#options = options;
    this.#defer = options.defer ?? ((callback) => void setImmediate(callback));
    const recovered = recover(options.files);
    this.#last = recovered.lastSequence;
    for (const segment of recovered.segments) this.#lastBooked = Math.max(this.#lastBooked, segment.lastBooked);
    this.#storage = new Storage(options, recovered.segments, this.#last + 1, (sequence, error) => this.#onDurable(sequence, error));
    for (const payload of recovered.openIntents.values()) this.append(expiredFrom(decodeRecord(payload)));
    this.flush();
    this.recovery = { ...recovered.report, expired: recovered.openIntents.size };
  }

  append(record: AttemptRecord): number {
    this.#room(FRAME_HEADER_BYTES + recordBytesMax(record));
    const sequence = ++this.#last;
    const end = encodeRecord(record, this.#slab, this.#slabAt + FRAME_HEADER_BYTES);
    sealFrame(this.#slab, this.#slabAt, end - this.#slabAt - FRAME_HEADER_BYTES, sequence);
    this.#slabAt = end;
    this.#note(record.kind, record.attemptId, sequence);
    return sequence;
  }

  flush(): void {
    this.#writeOut();
    if (this.#writtenWaiters.length > 0) {
      const waiters = this.#writtenWaiters;
      const error = this.#writeError;
      this.#writtenWaiters = [];
      for (const callback of waiters) callback(error);
    }
    this.#writeError = undefined;
    if (this.#toldBooked < this.#lastBooked) {
      this.#toldBooked = this.#lastBooked;
      for (const listener of this.#bookedListeners) listener();
    }
    if (this.#storage.diskBytes > this.#options.maxBytes * RELOG_SHARE) this.#relogOldIntents();
  }

  whenWritten(callback: OutboxCallback): void {
    if (this.#slabAt === this.#slabStart && this.#writtenWaiters.length === 0) callback(this.#storage.refusal);
    else this.#writtenWaiters.push(callback);
  }

  whenDurable(callback: OutboxCallback): void {
    if (this.#storage.durable >= this.#last) callback();
    else this.#durableWaiters.push({ sequence: this.#last, callback });
  }

  beforeDispatch(callback: OutboxCallback): void {
    if (this.durability === "strict") this.whenDurable(callback);
    else this.whenWritten(callback);
  }

  beforeAnswer(callback: OutboxCallback): void {
    if (this.durability === "relaxed") callback();
    else this.whenDurable(callback);
  }

  get accepting(): boolean {
    return this.#storage.accepting;
  }

  get lastBooked(): number {
    return this.#lastBooked;
  }

  get committed(): number {
    return this.#committed;
  }

  get stats(): OutboxStats {
    const { diskBytes, memoryBytes, writeErrors, syncErrors } = this.#storage;
    return { diskBytes, memoryBytes, openIntents: this.#openIntents.size - this.#ending.length, writeErrors, syncErrors };
  }

  read(after: number, maxRecords: number, maxBytes: number): readonly StoredRecord[] {
    return this.#storage.read(after, maxRecords, maxBytes);
  }

  commit(sequence: number): void {
    if (sequence <= this.#committed) return;
    this.#committed = Math.min(sequence, this.#last);
    this.#trim();
  }

  onBooked(listener: () => void): void {
    this.#bookedListeners.push(listener);
  }

  async close(): Promise<void> {
    this.flush();
    await new Promise<void>((resolve) => this.#storage.settle(resolve));
    this.#trim();
    if (this.#openIntents.size === 0 && this.#committed >= this.#lastBooked) this.#storage.clear();
    this.#storage.close();
  }

  /** Makes room for `bytes` more in the slab; what the tick gathered so far keeps its place in the order. */
  #room(bytes: number): void {
    if (this.#slabAt + bytes <= this.#slab.length) return;
    this.#writeOut();
    this.#slab = Buffer.allocUnsafeSlow(Math.max(SLAB_BYTES, bytes));
    this.#slabStart = 0;
    this.#slabAt = 0;
  }

  #note(kind: RecordKind, attemptId: string, sequence: number): void {
    if (this.#pendingFirst === 0) this.#pendingFirst = sequence;
    if (kind === RecordKind.INTENT) {
      this.#openIntents.delete(attemptId);
      this.#openIntents.set(attemptId, sequence);
    } else this.#ending.push({ attemptId, sequence });
    if (isBooked(kind)) {
      this.#pendingBooked = sequence;
      this.#lastBooked = sequence;
    }
    if (!this.#flushDeferred) {
      this.#flushDeferred = true;
      this.#defer(() => {
        this.#flushDeferred = false;
        this.flush();
      });
    }
  }

  #writeOut(): void {
    const chunk = this.#takeChunk();
    if (chunk !== undefined) this.#writeError = this.#storage.write(chunk) ?? this.#writeError;
  }

  #takeChunk(): Chunk | undefined {
    if (this.#slabAt === this.#slabStart) return undefined;
    const chunk = {
      bytes: this.#slab.subarray(this.#slabStart, this.#slabAt),
      first: this.#pendingFirst,
      last: this.#last,
      lastBooked: this.#pendingBooked,
      isAwaited: this.#durableWaiters.length > 0,
    };
    this.#slabStart = this.#slabAt;
    this.#pendingFirst = 0;
    this.#pendingBooked = 0;
    return chunk;
  }

  #onDurable(sequence: number, error: Error | undefined): void {
    const waiters = this.#durableWaiters;
    let count = 0;
    while (count < waiters.length && waiters[count]!.sequence <= sequence) count++;
    if (count > 0) this.#durableWaiters = waiters.slice(count);
    for (let at = 0; at < count; at++) waiters[at]!.callback(error);
    this.#trim();
  }

  #trim(): void {
    const safe = Math.max(this.#storage.durable, this.#committed);
    const ending = this.#ending;
    let count = 0;
    while (count < ending.length && ending[count]!.sequence <= safe) this.#openIntents.delete(ending[count++]!.attemptId);
    if (count > 0) this.#ending = ending.slice(count);
    if (this.#storage.durable >= this.#trimAfter) this.#storage.trim(this.#committed, this.#oldestIntent());
  }

  #oldestIntent(): number {
    for (const sequence of this.#openIntents.values()) return sequence;
    return Number.POSITIVE_INFINITY;
  }

  /** Writes the oldest segment's open intents again at the end, so that one endless stream does not hold the whole log. */
  #relogOldIntents(): void {
    const oldest: SegmentState | undefined = this.#storage.oldestSealed;
    if (oldest === undefined || oldest.lastBooked > this.#committed || this.#storage.durable < this.#trimAfter) return;
    const data = this.#options.files.read(oldest.name, 0, oldest.size);
    const ending = new Set(this.#ending.map((end) => end.attemptId));
    scanFrames(data, SEGMENT_MAGIC.length, 0, (sequence, payload) => {
      const record = decodeRecord(payload);
      const open = this.#openIntents.get(record.attemptId) === sequence && !ending.has(record.attemptId);
      if (record.kind === RecordKind.INTENT && open) this.append(record);
    });
    this.#trimAfter = this.#last;
  }
}
