import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type DecisionRecord, DecisionRecordSchema } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import type { Clock, Timer } from "#libs/clock/index.ts";
import type { Evidence } from "./engine.ts";
import { type DecisionRecords, MemoryRecords, recordOf } from "./records.ts";

/** Where blocks of records are kept: a ring of files, say. Who provides it bounds it and lets the oldest go. */
export interface RecordPort {
  /** Appends a block. Never throws and never blocks; what cannot be kept is dropped. */
  append(block: Uint8Array): void;
  /** All blocks, the newest first. */
  blocks(): AsyncIterable<Uint8Array>;
}

/** Decisions are written this long after they were made, in one block: by then most have their response ids, ms. */
const WRITE_MS = 1_000;

/** Decisions waiting to be written: a second at a thousand a second, eight times over. Beyond, they stay in memory only. */
const PENDING_MAX = 8_192;

/** A block's records are framed by their length, four bytes, little-endian. */
const LENGTH_BYTES = 4;

/** Decision records in memory and, a second later, behind a port: what memory has let go is looked for there. */
export class StoredRecords implements DecisionRecords {
  readonly #memory: MemoryRecords;
  readonly #port: RecordPort;
  readonly #timer: Timer;
  #pending: Evidence[] = [];
  #links = new Map<string, string[]>();

  constructor(port: RecordPort, clock: Clock, memory = new MemoryRecords()) {
    this.#memory = memory;
    this.#port = port;
    this.#timer = clock.every(WRITE_MS, () => this.flush());
  }

  keep(evidence: Evidence): void {
    this.#memory.keep(evidence);
    if (this.#pending.length < PENDING_MAX) this.#pending.push(evidence);
  }

  link(evidence: Evidence, responseId: string): void {
    this.#memory.link(evidence, responseId);
    if (this.#links.size >= PENDING_MAX) return;
    const { decisionId } = evidence.request;
    const known = this.#links.get(decisionId);
    if (known === undefined) this.#links.set(decisionId, [responseId]);
    else known.push(responseId);
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

  /** Writes what waits to be written. */
  flush(): void {
    if (this.#pending.length === 0 && this.#links.size === 0) return;
    const records = this.#pending.map((evidence) => {
      const { decisionId } = evidence.request;
      const responseIds = this.#links.get(decisionId) ?? [];
      this.#links.delete(decisionId);
      return recordOf(evidence, responseIds);
    });
    for (const [decisionId, responseIds] of this.#links) {
      records.push(create(DecisionRecordSchema, { request: { decisionId }, responseIds }));
    }
    this.#pending = [];
    this.#links = new Map();
    this.#port.append(writeBlock(records));
  }

  /** Writes what is left and stops. */
  close(): void {
    this.#timer.cancel();
    this.flush();
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

function writeBlock(records: readonly DecisionRecord[]): Uint8Array {
  const parts = records.map((record) => toBinary(DecisionRecordSchema, record));
  const block = new Uint8Array(parts.reduce((sum, part) => sum + LENGTH_BYTES + part.length, 0));
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
function readBlock(block: Uint8Array): readonly DecisionRecord[] {
  const records: DecisionRecord[] = [];
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  for (let at = 0; at + LENGTH_BYTES <= block.length;) {
    const until = at + LENGTH_BYTES + view.getUint32(at, true);
    if (until > block.length) break;
    try {
      records.push(fromBinary(DecisionRecordSchema, block.subarray(at + LENGTH_BYTES, until)));
    } catch {
      break;
    }
    at = until;
  }
  return records;
}
