import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, statSync, write, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Metrics } from "#libs/telemetry/index.ts";
import type { RecordPort } from "#services/policy-engine/index.ts";

/** The ring is this many files: the oldest goes whole when there is no room for another. */
const FILES = 16;

/** Blocks waiting for the disk, bytes; beyond, records are dropped and counted. */
const WAITING_MAX = 16 * 1024 * 1024;

/** Policies kept: decisions older than that many changes cannot be replayed. */
const POLICIES_MAX = 200;

/** A block is framed by its length, four bytes, little-endian. */
const LENGTH_BYTES = 4;

const FILE = /^records-(\d{12})\.bin$/;
const POLICY = /^policy-([A-Za-z0-9-]+)\.json$/;

/** Decision records in a folder: a ring of files, bounded in bytes, written one block after the other off the event loop. */
export class RecordsRing implements RecordPort {
  readonly #dir: string;
  readonly #fileMax: number;
  readonly #dropped: { add(count?: number): void };
  readonly #written: { add(count?: number): void };
  readonly #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #isWriting = false;
  #descriptor: number | undefined;
  #sequence: number;
  #size = 0;

  constructor(dir: string, maxBytes: number, metrics: Metrics) {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    this.#dir = dir;
    this.#fileMax = Math.max(64 * 1024, Math.floor(maxBytes / FILES));
    this.#dropped = metrics
      .counter("signalbox_decision_records_dropped_total", "Blocks of decision records that the disk was too slow for.")
      .with();
    this.#written = metrics.counter("signalbox_decision_record_bytes_total", "Bytes of decision records written.").with();
    this.#sequence = sequencesIn(dir).at(-1) ?? 0;
  }

  append(block: Uint8Array): void {
    if (this.#waitingBytes + block.length > WAITING_MAX) {
      this.#dropped.add();
      return;
    }
    const framed = new Uint8Array(LENGTH_BYTES + block.length);
    new DataView(framed.buffer).setUint32(0, block.length, true);
    framed.set(block, LENGTH_BYTES);
    this.#waiting.push(framed);
    this.#waitingBytes += framed.length;
    if (!this.#isWriting) this.#writeNext();
  }

  async *blocks(): AsyncIterable<Uint8Array> {
    for (const sequence of sequencesIn(this.#dir).toReversed()) {
      const bytes = await readFile(fileOf(this.#dir, sequence)).catch(() => new Uint8Array(0));
      yield* blocksIn(bytes).toReversed();
    }
  }

  keepPolicy(name: string, policy: Uint8Array): void {
    const path = join(this.#dir, `policy-${name}.json`);
    try {
      if (!existsSync(path)) writeFileSync(path, policy, { mode: 0o600 });
      const names = readdirSync(this.#dir).filter((each) => POLICY.test(each));
      if (names.length <= POLICIES_MAX) return;
      const byAge = names.map((each) => ({ each, at: statSync(join(this.#dir, each)).mtimeMs })).toSorted((a, b) => a.at - b.at);
      for (const { each } of byAge.slice(0, names.length - POLICIES_MAX)) rmSync(join(this.#dir, each), { force: true });
    } catch {
      this.#dropped.add();
    }
  }

  /** A policy by the name it was kept by. */
  policy(name: string): Uint8Array | undefined {
    try {
      return readFileSync(join(this.#dir, `policy-${name}.json`));
    } catch {
      return undefined;
    }
  }

  /** Lets go of the file once what waits is written. */
  async close(): Promise<void> {
    while (this.#isWriting) await new Promise((resolve) => setImmediate(resolve));
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  #writeNext(): void {
    const block = this.#waiting.shift();
    this.#isWriting = block !== undefined;
    if (block === undefined) return;
    this.#waitingBytes -= block.length;
    try {
      write(this.#file(block.length), block, (failure) => {
        if (failure === null) this.#written.add(block.length);
        else this.#dropped.add();
        this.#writeNext();
      });
    } catch {
      // A full or missing disk costs records, never decisions.
      this.#dropped.add();
      this.#descriptor = undefined;
      setImmediate(() => this.#writeNext());
    }
  }

  /** The file to write to: a new one at the start and when the last is full. */
  #file(bytes: number): number {
    if (this.#descriptor !== undefined && this.#size + bytes > this.#fileMax) {
      closeSync(this.#descriptor);
      this.#descriptor = undefined;
    }
    if (this.#descriptor === undefined) {
      for (const old of sequencesIn(this.#dir).slice(0, -(FILES - 1))) rmSync(fileOf(this.#dir, old), { force: true });
      this.#sequence++;
      this.#descriptor = openSync(fileOf(this.#dir, this.#sequence), "a", 0o600);
      this.#size = 0;
    }
    this.#size += bytes;
    return this.#descriptor;
  }
}

function fileOf(dir: string, sequence: number): string {
  return join(dir, `records-${String(sequence).padStart(12, "0")}.bin`);
}

function sequencesIn(dir: string): readonly number[] {
  return readdirSync(dir)
    .map((name) => FILE.exec(name)?.[1])
    .filter((digits) => digits !== undefined)
    .map(Number)
    .toSorted((a, b) => a - b);
}

/** Whole blocks of a file, in the order written; a torn end is left out. */
function blocksIn(bytes: Uint8Array): readonly Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const blocks: Uint8Array[] = [];
  for (let at = 0; at + LENGTH_BYTES <= bytes.length;) {
    const until = at + LENGTH_BYTES + view.getUint32(at, true);
    if (until > bytes.length) break;
    blocks.push(bytes.subarray(at + LENGTH_BYTES, until));
    at = until;
  }
  return blocks;
}
