import { type DecisionRecord, DecisionRecordSchema } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import { codecOf } from "#libs/wire/index.ts";

/** A block's records are framed by their length, four bytes, little-endian. */
const LENGTH_BYTES = 4;

/** Room of one block, bytes: one write to the disk for some fifty, because waking a thread for it costs more than the bytes. */
const BLOCK_BYTES = 64 * 1024;

/** Blocks a ring is made of at the least, so that the oldest records go a few at a time. */
const BLOCKS_MIN = 4;

const CODEC = codecOf(DecisionRecordSchema);

/** Encoded records in memory, bounded in bytes: whole blocks, the oldest go first. What is kept costs no object of its own. */
export class RecordBlocks {
  readonly #blockBytes: number;
  readonly #bytesMax: number;
  /** Full ones, the oldest first. */
  #full: Uint8Array[] = [];
  #fullBytes = 0;
  #current: Uint8Array | undefined;
  #at = 0;
  /** Up to here the current one was handed on. */
  #taken = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.#blockBytes = Math.min(BLOCK_BYTES, Math.floor(bytesMax / BLOCKS_MIN));
  }

  /** Copies a record in; returns what was not taken yet of a block that had no room for it. */
  add(record: Uint8Array): Uint8Array | undefined {
    const bytes = LENGTH_BYTES + record.length;
    let rest: Uint8Array | undefined;
    if (this.#current === undefined || this.#at + bytes > this.#current.length) {
      rest = this.take();
      this.#turn(bytes);
    }
    const block = this.#current!;
    block[this.#at] = record.length;
    block[this.#at + 1] = record.length >>> 8;
    block[this.#at + 2] = record.length >>> 16;
    block[this.#at + 3] = record.length >>> 24;
    block.set(record, this.#at + LENGTH_BYTES);
    this.#at += bytes;
    return rest;
  }

  /** Whole records added since the last call; undefined = none. A view, good for as long as anybody holds it. */
  take(): Uint8Array | undefined {
    if (this.#current === undefined || this.#taken === this.#at) return undefined;
    const rest = this.#current.subarray(this.#taken, this.#at);
    this.#taken = this.#at;
    return rest;
  }

  /** All blocks, the newest first. */
  *newestFirst(): Generator<Uint8Array, void, undefined> {
    if (this.#current !== undefined) yield this.#current.subarray(0, this.#at);
    yield* this.#full.toReversed();
  }

  #turn(bytes: number): void {
    if (this.#current !== undefined) {
      this.#full.push(this.#current.subarray(0, this.#at));
      this.#fullBytes += this.#current.length;
    }
    this.#current = Buffer.allocUnsafeSlow(Math.max(bytes, this.#blockBytes));
    this.#at = this.#taken = 0;
    let gone = 0;
    while (gone < this.#full.length && this.#fullBytes + this.#current.length > this.#bytesMax) {
      this.#fullBytes -= this.#full[gone++]!.buffer.byteLength;
    }
    if (gone > 0) this.#full = this.#full.slice(gone);
  }
}

/** Records of a block, in the order written; a torn or damaged end is left out. */
export function readBlock(block: Uint8Array): readonly DecisionRecord[] {
  const records: DecisionRecord[] = [];
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  for (let at = 0; at + LENGTH_BYTES <= block.length;) {
    const until = at + LENGTH_BYTES + view.getUint32(at, true);
    if (until > block.length) break;
    try {
      records.push(CODEC.decode(block.subarray(at + LENGTH_BYTES, until)));
    } catch {
      break;
    }
    at = until;
  }
  return records;
}

/** Blocks, the newest first; each call begins anew. */
export type BlockSource = () => Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/**
 * Looks for a decision from the newest block back, by its id, its request's (then the latest) or that of an answer. Ids of answers
 * stand behind the decision they belong to, in records without one.
 */
export async function searchBlocks(blocks: BlockSource, id: string): Promise<DecisionRecord | undefined> {
  const links = new Map<string, string[]>();
  for await (const block of blocks()) {
    if (!holds(block, id)) continue;
    for (const record of readBlock(block).toReversed()) {
      const { request, decision, responseIds } = record;
      if (request === undefined) continue;
      const { decisionId, requestId } = request;
      if (decisionId !== id && requestId !== id) {
        if (responseIds.includes(id)) return searchBlocks(blocks, decisionId);
        continue;
      }
      const known = links.get(decisionId) ?? [];
      if (decision !== undefined) return { ...record, responseIds: [...responseIds, ...known.toReversed()] };
      links.set(decisionId, [...new Set([...known, ...responseIds])]);
    }
  }
  return undefined;
}

/** The latest decision. */
export async function latestIn(blocks: BlockSource): Promise<DecisionRecord | undefined> {
  for await (const block of blocks()) {
    const latest = readBlock(block).findLast((record) => record.decision !== undefined);
    if (latest !== undefined) return latest;
  }
  return undefined;
}

/** Whether a text stands in a block, wherever: most blocks need not be read. */
function holds(block: Uint8Array, text: string): boolean {
  return Buffer.from(block.buffer, block.byteOffset, block.byteLength).includes(text);
}
