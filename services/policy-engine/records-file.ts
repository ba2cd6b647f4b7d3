import { create } from "@bufbuild/protobuf";
import { type DecisionRecord, DecisionRecordSchema } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import type { Clock, Timer } from "#libs/clock/index.ts";
import { codecOf } from "#libs/rpc/index.ts";
import type { Evidence } from "./engine.ts";
import { type DecisionRecords, MemoryRecords, recordOf } from "./records.ts";
import { encodePolicy, policyKey } from "./recorded-policy.ts";

/** Where blocks of records are kept: a ring of files, say. Who provides it bounds it and lets the oldest go. */
export interface RecordPort {
  /** Appends a block. Never throws and never blocks; what cannot be kept is dropped. */
  append(block: Uint8Array): void;
  /** All blocks, the newest first. */
  blocks(): AsyncIterable<Uint8Array>;
  /** A record came while too many waited and is in memory only: to be counted. */
  dropped(): void;
  /** Keeps what decisions were made under, by name; what is there stays. Never throws and never blocks. */
  keepPolicy(name: string, policy: Uint8Array): void;
}

/** Decisions are written this long after they were made: by then most have their response ids, ms. */
const WRITE_MS = 1_000;

/** How often some of them are written, and how many at a time: a slice keeps the event loop for about a millisecond. */
const SLICE_MS = 10;
const SLICE = 32;

/** Decisions waiting to be written: a second at a thousand a second, eight times over. Beyond, they stay in memory only. */
const PENDING_MAX = 8_192;

/** Written decisions that still stand before those that wait: cutting them off copies the rest. */
const HEAD_MAX = 512;

/** A block goes out when it is this large, bytes, or its first record has waited this long, ms: one write to the disk for many. */
const BLOCK_BYTES = 32 * 1024;
const BLOCK_MS = 250;

/** A block's records are framed by their length, four bytes, little-endian. */
const LENGTH_BYTES = 4;

/** Policies that were told to the port: more change back and forth than anybody looks at. */
const POLICIES_MAX = 64;

const CODEC = codecOf(DecisionRecordSchema);

/** Decision records in memory and, a second later, behind a port: what memory has let go is looked for there. */
export class StoredRecords implements DecisionRecords {
  readonly #memory: MemoryRecords;
  readonly #port: RecordPort;
  readonly #clock: Clock;
  /** Stands still while nothing waits. */
  #timer: Timer | undefined;
  #pending: Evidence[] = [];
  /** First of `pending` that is not written. */
  #head = 0;
  /** Ids that came after their decision was written. */
  #late: DecisionRecord[] = [];
  readonly #policies = new Set<string>();
  /** Records of the next block. */
  #parts: Uint8Array[] = [];
  #bytes = 0;
  #sinceMs = 0;

  constructor(port: RecordPort, clock: Clock, memory = new MemoryRecords()) {
    this.#memory = memory;
    this.#port = port;
    this.#clock = clock;
  }

  keep(evidence: Evidence): void {
    this.#memory.keep(evidence);
    if (this.#pending.length - this.#head >= PENDING_MAX) {
      this.#port.dropped();
      return;
    }
    this.#pending.push(evidence);
    this.#wake();
  }

  link(evidence: Evidence, responseId: string): void {
    this.#memory.link(evidence, responseId);
    if (!evidence.written || this.#late.length >= PENDING_MAX) return;
    this.#late.push(linkRecord(evidence.request.decisionId, [responseId]));
    this.#wake();
  }

  async find(id: string): Promise<DecisionRecord | undefined> {
    return (await this.#memory.find(id)) ?? this.#search(id);
  }

  async last(): Promise<DecisionRecord | undefined> {
    const recent = await this.#memory.last();
    if (recent !== undefined) return recent;
    for await (const block of this.#port.blocks()) {
      const latest = readBlock(block).findLast((record) => record.decision !== undefined);
      if (latest !== undefined) return latest;
    }
    return undefined;
  }

  /** Writes what is left and stops. */
  close(): void {
    this.#rest();
    while (this.#head < this.#pending.length || this.#late.length > 0) this.#write(Number.POSITIVE_INFINITY, SLICE);
    if (this.#parts.length > 0) this.#send();
  }

  #wake(): void {
    this.#timer ??= this.#clock.every(SLICE_MS, () => {
      this.#write(this.#clock.now() - WRITE_MS, SLICE);
      if (this.#pending.length === 0 && this.#late.length === 0 && this.#parts.length === 0) this.#rest();
    });
  }

  #rest(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** Writes decisions made until `untilMs`, at most so many, and ids that came for decisions written before. */
  #write(untilMs: number, most: number): void {
    let left = most;
    for (; left > 0 && this.#head < this.#pending.length; left--) {
      const evidence = this.#pending[this.#head]!;
      if (evidence.decidedAtMs > untilMs) break;
      this.#head++;
      evidence.written = true;
      this.#keepPolicy(evidence);
      this.#add(recordOf(evidence));
    }
    for (const link of this.#late.splice(0, left)) this.#add(link);
    if (this.#head > HEAD_MAX || this.#head === this.#pending.length) {
      this.#pending = this.#pending.slice(this.#head);
      this.#head = 0;
    }
    if (this.#parts.length > 0 && this.#clock.monotonicMs() - this.#sinceMs >= BLOCK_MS) this.#send();
  }

  #add(record: DecisionRecord): void {
    const part = CODEC.encode(record);
    if (this.#parts.length === 0) this.#sinceMs = this.#clock.monotonicMs();
    this.#parts.push(part);
    this.#bytes += LENGTH_BYTES + part.length;
    if (this.#bytes >= BLOCK_BYTES) this.#send();
  }

  #send(): void {
    this.#port.append(blockOf(this.#parts, this.#bytes));
    this.#parts = [];
    this.#bytes = 0;
  }

  #keepPolicy({ made, decision }: Evidence): void {
    const name = policyKey(decision.configVersion, made.control?.revision ?? 0n);
    if (this.#policies.has(name)) return;
    if (this.#policies.size >= POLICIES_MAX) this.#policies.clear();
    this.#policies.add(name);
    this.#port.keepPolicy(name, encodePolicy(made.config, made.control));
  }

  /** From the newest block back. A response id may stand in a later block than its decision: then that decision is looked for. */
  async #search(id: string): Promise<DecisionRecord | undefined> {
    let wanted = id;
    const responseIds: string[] = [];
    for await (const block of this.#port.blocks()) {
      for (const record of readBlock(block).toReversed()) {
        const { request } = record;
        const named = request?.decisionId === wanted || request?.requestId === wanted || record.responseIds.includes(wanted);
        if (request === undefined || !named) continue;
        responseIds.push(...record.responseIds);
        if (record.decision !== undefined) return { ...record, responseIds };
        wanted = request.decisionId;
      }
    }
    return undefined;
  }
}

/** Ids alone, for a decision that is written already. */
function linkRecord(decisionId: string, responseIds: string[]): DecisionRecord {
  return create(DecisionRecordSchema, { request: { decisionId }, responseIds });
}

function blockOf(parts: readonly Uint8Array[], bytes: number): Uint8Array {
  const block = new Uint8Array(bytes);
  const view = new DataView(block.buffer);
  let at = 0;
  for (const part of parts) {
    view.setUint32(at, part.length, true);
    block.set(part, at + LENGTH_BYTES);
    at += LENGTH_BYTES + part.length;
  }
  return block;
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
