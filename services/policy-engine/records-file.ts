import type { DecisionRecord } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import type { Clock, Timer } from "#libs/clock/index.ts";
import { writeEvidence, writeLink } from "./decision-writer.ts";
import type { Evidence } from "./engine.ts";
import { latestIn, RecordBlocks, searchBlocks } from "./record-blocks.ts";
import { type DecisionRecords, RING_BYTES } from "./records.ts";
import { encodePolicy, policyKey } from "./recorded-policy.ts";

/** Where blocks of records are kept: a ring of files, say. Who provides it bounds it and lets the oldest go. */
export interface RecordPort {
  /** Appends a block. Never throws and never blocks; what cannot be kept is dropped. */
  append(block: Uint8Array): void;
  /** All blocks, the newest first. */
  blocks(): AsyncIterable<Uint8Array>;
  /** Keeps what decisions were made under, by name; what is there stays. Never throws and never blocks. */
  keepPolicy(name: string, policy: Uint8Array): void;
}

/** A block goes out when it is full or its first record has waited this long, ms: one write to the disk for many. */
const BLOCK_MS = 250;

/** Policies that were told to the port: more change back and forth than anybody looks at. */
const POLICIES_MAX = 64;

/** Decision records in memory and, a moment later, behind a port: what memory has let go is looked for there. */
export class StoredRecords implements DecisionRecords {
  readonly #port: RecordPort;
  readonly #clock: Clock;
  readonly #blocks: RecordBlocks;
  /** Stands still while nothing waits. */
  #timer: Timer | undefined;
  /** Names of policies told to the port. */
  readonly #policies = new Set<string>();
  /** Under which the latest decision was made, and those that the port is to hear of. */
  #made: Evidence["made"] | undefined;
  #untold: Evidence["made"][] = [];

  constructor(port: RecordPort, clock: Clock, bytesMax = RING_BYTES) {
    this.#port = port;
    this.#clock = clock;
    this.#blocks = new RecordBlocks(bytesMax);
  }

  keep(evidence: Evidence): void {
    if (evidence.made !== this.#made) this.#untold.push((this.#made = evidence.made));
    this.#add(writeEvidence(evidence));
  }

  link({ request }: Evidence, responseId: string): void {
    this.#add(writeLink(request, responseId));
  }

  async find(id: string): Promise<DecisionRecord | undefined> {
    return (await searchBlocks(() => this.#blocks.newestFirst(), id)) ?? searchBlocks(() => this.#port.blocks(), id);
  }

  async last(): Promise<DecisionRecord | undefined> {
    return (await latestIn(() => this.#blocks.newestFirst())) ?? latestIn(() => this.#port.blocks());
  }

  /** Writes what is left and stops. */
  close(): void {
    this.#timer?.cancel();
    this.#send();
  }

  #add(record: Uint8Array): void {
    const full = this.#blocks.add(record);
    if (full !== undefined) this.#port.append(full);
    this.#timer ??= this.#clock.after(BLOCK_MS, () => this.#send());
  }

  #send(): void {
    this.#timer = undefined;
    const block = this.#blocks.take();
    if (block !== undefined) this.#port.append(block);
    for (const made of this.#untold.splice(0)) this.#keepPolicy(made);
  }

  #keepPolicy({ config, control }: Evidence["made"]): void {
    const name = policyKey(config.configVersion, control?.revision ?? 0n);
    if (this.#policies.has(name)) return;
    if (this.#policies.size >= POLICIES_MAX) this.#policies.clear();
    this.#policies.add(name);
    this.#port.keepPolicy(name, encodePolicy(config, control));
  }
}
