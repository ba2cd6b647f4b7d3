import type { Clock, Timer } from "#libs/clock/index.ts";
import type { OutboxFile, OutboxFiles } from "./files.ts";
import { FRAME_PAYLOAD_MAX_BYTES, scanFrames, SEGMENT_MAGIC } from "./frame.ts";
import { GroupCommit } from "./group-commit.ts";
import type { Durability, StoredRecord } from "./outbox.ts";
import { peekKind } from "./record-codec.ts";
import { isBooked, segmentName, type SegmentState } from "./recovery.ts";

/** The frames of one tick. */
export interface Chunk {
  readonly bytes: Buffer;
  readonly first: number;
  readonly last: number;
  /** Highest POST or EXPIRE in it; 0 = none. */
  readonly lastBooked: number;
  /** Whether somebody waits for it to be durable. */
  readonly isAwaited: boolean;
}

/** What storage needs to know. */
export interface StorageOptions {
  readonly files: OutboxFiles;
  readonly clock: Clock;
  readonly durability: Durability;
  readonly maxBytes: number;
  readonly onFull: "block" | "memory";
}

/** Called when everything up to `sequence` is durable, or refused. */
export type DurableListener = (sequence: number, error: Error | undefined) => void;

/** Segments go as a whole: this many make up the bound, so that trimming is fine-grained enough. */
const SEGMENTS_PER_OUTBOX = 64;
const SEGMENT_MIN_BYTES = 4 * 1024;
const SEGMENT_MAX_BYTES = 16 * 1024 * 1024;
/** A slice read back for shipping is at least this long. */
const READ_MIN_BYTES = 64 * 1024;
/** Records kept in memory while the disk refuses them: about 100,000 attempts. */
const MEMORY_MAX_BYTES = 64 * 1024 * 1024;
/** Between two attempts at a disk that refused, ms. */
const RETRY_MS = 200;

interface Active {
  readonly file: OutboxFile;
  readonly segment: SegmentState;
}

/** Looks at one record of a read: not for the ledger, taken (or known), or one too many. */
type Taker = (sequence: number, payload: Uint8Array) => "passed" | "booked" | "full";

/** Segments on the disk, what waits for them in memory, and the group commit. */
export class Storage {
  readonly #options: StorageOptions;
  readonly #onDurable: DurableListener;
  readonly #segments: SegmentState[];
  readonly #segmentBytes: number;
  readonly #groups: GroupCommit;
  readonly #unsynced = new Set<OutboxFile>();
  #inSync: readonly OutboxFile[] = [];
  #active: Active | undefined;
  #unwritten: Chunk[] = [];
  #undurable: Chunk[] = [];
  #settlers: (() => void)[] = [];
  #syncTimer: Timer | undefined;
  #retryTimer: Timer | undefined;
  #syncing = false;
  #directoryDirty = false;
  #refusal: Error | undefined;
  #generation = 0;
  #durable = 0;
  /** Segments of an earlier life: what that wrote may not be durable yet. */
  #inherited: string[];
  readonly #inheritedLast: number;
  /** Where the last read stopped: everything up to `booked` lies before `offset`. */
  #cursor = { name: "", offset: 0, booked: 0 };
  diskBytes = 0;
  memoryBytes = 0;
  writeErrors = 0;
  syncErrors = 0;

  constructor(options: StorageOptions, segments: SegmentState[], next: number, onDurable: DurableListener) {
    this.#options = options;
    this.#segments = segments;
    this.#inherited = segments.map((segment) => segment.name);
    this.#inheritedLast = next - 1;
    this.#onDurable = onDurable;
    this.#groups = new GroupCommit(options.durability);
    this.#segmentBytes = Math.min(SEGMENT_MAX_BYTES, Math.max(SEGMENT_MIN_BYTES, Math.floor(options.maxBytes / SEGMENTS_PER_OUTBOX)));
    for (const segment of segments) this.diskBytes += segment.size;
    if (segments.length > 0) this.#scheduleSync(false);
  }

  /** Everything up to here survives the machine. */
  get durable(): number {
    return this.#durable;
  }

  /** Why the disk takes nothing now; undefined when it does, or when memory stands in for it. */
  get refusal(): Error | undefined {
    return this.#standsIn() ? undefined : this.#refusal;
  }

  get accepting(): boolean {
    if (this.#options.onFull === "memory") return this.memoryBytes < MEMORY_MAX_BYTES;
    return this.#refusal === undefined && this.diskBytes < this.#options.maxBytes;
  }

  /** The oldest segment that takes no more writes. */
  get oldestSealed(): SegmentState | undefined {
    const head = this.#segments[0];
    return head === this.#active?.segment ? undefined : head;
  }

  /** Writes a chunk behind everything before it. An error means that it waits in memory and the caller should not rely on it. */
  write(chunk: Chunk): Error | undefined {
    this.#unwritten.push(chunk);
    this.memoryBytes += chunk.bytes.length;
    this.#drain();
    if (this.#unwritten.length === 0) return undefined;
    this.#retryTimer ??= this.#options.clock.after(RETRY_MS, () => {
      this.#retryTimer = undefined;
      this.#retry();
    });
    const error = this.refusal;
    if (error === undefined) this.#durable = Math.max(this.#durable, chunk.last);
    this.#onDurable(chunk.last, error);
    return error;
  }

  /** Booked records above `after`, in order. */
  read(after: number, maxRecords: number, maxBytes: number): readonly StoredRecord[] {
    const found: StoredRecord[] = [];
    let bytes = 0;
    let last = after;
    let full = false;
    const take: Taker = (sequence, payload) => {
      const kind = peekKind(payload);
      if (kind === undefined || !isBooked(kind)) return "passed";
      if (sequence <= last) return "booked";
      full = full || found.length >= maxRecords || (bytes + payload.length > maxBytes && found.length > 0);
      if (full) return "full";
      found.push({ sequence, payload });
      bytes += payload.length;
      last = sequence;
      return "booked";
    };
    for (const segment of this.#segments) {
      if (segment.lastBooked > last && !this.#readSegment(segment, last, maxBytes, take)) return found;
    }
    for (const chunk of this.#unwritten) {
      if (chunk.lastBooked > last && !full) scanFrames(chunk.bytes, 0, 0, (sequence, payload) => take(sequence, payload) !== "full");
    }
    return found;
  }

  /** Removes what is committed from the front, whole segments only, never one with an intent from `oldestIntent` on. */
  trim(committed: number, oldestIntent: number): void {
    for (;;) {
      const head = this.oldestSealed;
      if (
        head === undefined ||
        head.lastBooked > committed ||
        head.last >= oldestIntent ||
        head.last > this.#durable ||
        this.#inherited.includes(head.name)
      )
        break;
      this.#remove(head);
    }
    while (this.#standsIn() && this.#unwritten.length > 0) {
      const head = this.#unwritten[0]!;
      if (head.lastBooked > committed || head.last >= oldestIntent) break;
      this.#unwritten.shift();
      this.memoryBytes -= head.bytes.length;
    }
  }

  /** Calls back when everything written is durable, or the disk has refused once more. */
  settle(callback: () => void): void {
    this.#drain();
    if (this.#undurable.length === 0 && this.#inherited.length === 0 && !this.#syncing) return callback();
    this.#settlers.push(callback);
    this.#syncTimer?.cancel();
    this.#syncTimer = undefined;
    if (!this.#syncing) this.#sync();
  }

  /** Removes every segment: all is committed. */
  clear(): void {
    this.#seal();
    for (const segment of this.#segments.slice()) this.#remove(segment);
  }

  close(): void {
    this.#syncTimer?.cancel();
    this.#retryTimer?.cancel();
    this.#seal();
    for (const file of this.#unsynced) file.close();
    this.#unsynced.clear();
    this.#options.files.release();
  }

  #standsIn(): boolean {
    return this.#options.onFull === "memory" && this.memoryBytes < MEMORY_MAX_BYTES;
  }

  #retry(): void {
    this.#drain();
    if (this.#unwritten.length === 0) return;
    this.#retryTimer ??= this.#options.clock.after(RETRY_MS, () => {
      this.#retryTimer = undefined;
      this.#retry();
    });
  }

  #drain(): void {
    while (this.#unwritten.length > 0) {
      const chunk = this.#unwritten[0]!;
      if (this.#options.onFull === "memory" && this.diskBytes + chunk.bytes.length > this.#options.maxBytes) return;
      try {
        this.#writeNow(chunk);
      } catch (error) {
        this.writeErrors++;
        this.#refusal = error as Error;
        return;
      }
      this.#unwritten.shift();
      this.memoryBytes -= chunk.bytes.length;
    }
    this.#refusal = undefined;
  }

  #writeNow(chunk: Chunk): void {
    const { file, segment } = this.#active && this.#active.segment.size < this.#segmentBytes ? this.#active : this.#roll(chunk.first);
    try {
      file.write(chunk.bytes);
    } catch (error) {
      this.#cutPartialWrite(file, segment);
      throw error;
    }
    segment.size += chunk.bytes.length;
    this.diskBytes += chunk.bytes.length;
    segment.last = Math.max(segment.last, chunk.last);
    segment.lastBooked = Math.max(segment.lastBooked, chunk.lastBooked);
    this.#undurable.push(chunk);
    this.#unsynced.add(file);
    this.#scheduleSync(chunk.isAwaited);
  }

  /** Half a chunk at the end would hide the next one: it is cut, or else the segment takes no more. */
  #cutPartialWrite(file: OutboxFile, segment: SegmentState): void {
    try {
      file.truncate(segment.size);
    } catch {
      this.#seal();
    }
  }

  #roll(first: number): Active {
    this.#seal();
    let name = segmentName(first, 0);
    while (this.#segments.some((segment) => segment.name === name)) name = segmentName(first, ++this.#generation);
    const file = this.#options.files.create(name);
    this.#directoryDirty = true;
    try {
      file.write(SEGMENT_MAGIC);
    } catch (error) {
      file.close();
      this.#options.files.remove(name);
      throw error;
    }
    const segment: SegmentState = { name, first, last: first - 1, size: SEGMENT_MAGIC.length, lastBooked: 0 };
    this.#segments.push(segment);
    this.diskBytes += segment.size;
    this.#active = { file, segment };
    return this.#active;
  }

  #seal(): void {
    if (this.#active === undefined) return;
    const { file } = this.#active;
    this.#active = undefined;
    if (!this.#unsynced.has(file) && !this.#inSync.includes(file)) file.close();
  }

  #scheduleSync(isAwaited: boolean): void {
    if (this.#syncing) return;
    const delayMs = this.#settlers.length > 0 ? 0 : this.#groups.delayMs(isAwaited);
    if (delayMs === 0) {
      this.#syncTimer?.cancel();
      this.#syncTimer = undefined;
      return this.#sync();
    }
    this.#syncTimer ??= this.#options.clock.after(delayMs, () => {
      this.#syncTimer = undefined;
      this.#sync();
    });
  }

  #sync(): void {
    this.#syncing = true;
    const target = this.#undurable.at(-1)?.last ?? Math.max(this.#durable, this.#inheritedLast);
    const files = [...this.#unsynced];
    const inherited = this.#inherited;
    const directory = this.#directoryDirty || inherited.length > 0;
    let waiting = files.length + inherited.length + (directory ? 1 : 0);
    let failure: Error | undefined;
    const done = (error: Error | undefined): void => {
      failure ??= error;
      if (--waiting > 0) return;
      if (failure) this.#inherited = [...inherited, ...this.#inherited];
      this.#synced(target, files, failure);
    };
    if (waiting === 0) return this.#synced(target, files, undefined);
    this.#unsynced.clear();
    this.#inSync = files;
    this.#inherited = [];
    this.#directoryDirty = false;
    if (directory) this.#options.files.syncDirectory(done);
    for (const name of inherited) this.#options.files.sync(name, done);
    for (const file of files) file.sync(done);
  }

  #synced(target: number, files: readonly OutboxFile[], failure: Error | undefined): void {
    this.#syncing = false;
    this.#inSync = [];
    for (const file of files) if (file !== this.#active?.file && !this.#unsynced.has(file)) file.close();
    if (failure) this.#rewrite(failure);
    else {
      this.#groups.synced(target - this.#durable);
      this.#durable = Math.max(this.#durable, target);
      let count = 0;
      while (count < this.#undurable.length && this.#undurable[count]!.last <= target) count++;
      this.#undurable.splice(0, count);
    }
    this.#onDurable(target, failure);
    if (failure || this.#undurable.length === 0) for (const settled of this.#settlers.splice(0)) settled();
    if (this.#undurable.length > 0 || this.#inherited.length > 0) this.#scheduleSync(this.#undurable.some((chunk) => chunk.isAwaited));
  }

  /** After a failed fdatasync the system may have dropped the pages: what was not durable is written again, to a new segment. */
  #rewrite(failure: Error): void {
    this.syncErrors++;
    this.#refusal = failure;
    const again = this.#undurable;
    this.#undurable = [];
    this.#unwritten = [...again, ...this.#unwritten];
    for (const chunk of again) this.memoryBytes += chunk.bytes.length;
    this.#seal();
    this.#directoryDirty = true;
    this.#retryTimer ??= this.#options.clock.after(RETRY_MS, () => {
      this.#retryTimer = undefined;
      this.#retry();
    });
  }

  #remove(segment: SegmentState): void {
    this.#segments.splice(this.#segments.indexOf(segment), 1);
    this.#inherited = this.#inherited.filter((name) => name !== segment.name);
    this.diskBytes -= segment.size;
    this.#directoryDirty = true;
    try {
      this.#options.files.remove(segment.name);
    } catch {
      this.writeErrors++;
    }
  }

  /** Reads on from where the last call stopped, in slices. False when `take` has enough. */
  #readSegment(segment: SegmentState, after: number, maxBytes: number, take: Taker): boolean {
    const known = this.#cursor.name === segment.name && this.#cursor.booked <= after;
    let booked = known ? this.#cursor.booked : 0;
    let offset = known ? this.#cursor.offset : SEGMENT_MAGIC.length;
    let length = Math.max(maxBytes, READ_MIN_BYTES);
    while (offset < segment.size) {
      const data = this.#options.files.read(segment.name, offset, Math.min(length, segment.size - offset));
      let end = 0;
      let enough = false;
      scanFrames(data, 0, segment.first - 1, (sequence, payload, frameEnd) => {
        const taken = take(sequence, payload);
        enough = taken === "full";
        if (enough) return false;
        if (taken === "booked") booked = sequence;
        end = frameEnd;
        return true;
      });
      this.#cursor = { name: segment.name, offset: offset + end, booked };
      if (enough) return false;
      if (end === 0 && offset + data.length >= segment.size) return true;
      // A slice without a whole frame: the next one is longer, beyond the longest frame and any damage.
      if (end === 0) length = Math.max(length * 2, 2 * FRAME_PAYLOAD_MAX_BYTES);
      offset += end;
    }
    return true;
  }
}
