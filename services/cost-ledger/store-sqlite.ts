import { Worker, type Transferable } from "node:worker_threads";
import type { CostRow } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import type { Entry } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { Clock, Timer } from "#libs/clock/index.ts";
import { encodeAttemptRecord } from "#libs/outbox/index.ts";
import { LiveMap } from "#libs/live/index.ts";
import type { CostQuery, EntryFilter } from "#libs/peers/index.ts";
import type { ObservationRow } from "./experiments/source-rows.ts";
import type { PricedRecord } from "./entries/index.ts";
import type { AnswerRow, Replaced, ScoreRow, ScoreSums } from "./scores/answers.ts";
import type { StoredPricePeriod } from "./price-periods.ts";
import type { RollupSums } from "./rollup-check.ts";
import type { EncodedBatch, StoreMethod, WorkerAnswer } from "./sqlite-worker.ts";
import {
  storeUnavailable,
  type Booked,
  type BudgetRow,
  type ChainRow,
  type HourSum,
  type LedgerStore,
  type StoredControl,
  type StoreTotals,
} from "./store.ts";
import { errorFromWire } from "./wire-error.ts";

/** Between attempts to start a thread in place of a dead one, ms; doubles up to the maximum. */
const RESTART_MS = 250;
const RESTART_MAX_MS = 5_000;

/** What the thread's short-lived objects may take, MiB: nothing of a batch outlives it, so that more memory saves no work. */
const YOUNG_MB = 8;

/** The ledger in one SQLite file, on a thread of its own: a synced commit takes milliseconds that no request should wait for. */
export function createSqliteStore(path: string, clock: Clock): LedgerStore {
  return new SqliteStore(path, clock);
}

interface PendingCall {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

class SqliteStore implements LedgerStore {
  readonly kind = "sqlite";
  readonly appendOnly = "trigger";
  readonly #path: string;
  readonly #pending = new LiveMap<number, PendingCall>();
  readonly #listeners: ((up: boolean) => void)[] = [];
  #worker: Worker | undefined;
  readonly #clock: Clock;
  #up = false;
  #stopped = false;
  #restartMs = RESTART_MS;
  #restartTimer: Timer | undefined;
  #lastId = 0;

  constructor(path: string, clock: Clock) {
    this.#path = path;
    this.#clock = clock;
  }

  get up(): boolean {
    return this.#up;
  }

  onChange(listener: (up: boolean) => void): void {
    this.#listeners.push(listener);
  }

  async start(): Promise<void> {
    this.#stopped = false;
    await this.#open();
  }

  async #open(): Promise<void> {
    // The package is emitted as JavaScript; a clone runs its sources.
    const file = import.meta.url.endsWith(".ts") ? "./sqlite-worker.ts" : "./sqlite-worker.js";
    const worker = new Worker(new URL(file, import.meta.url), {
      workerData: this.#path,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB },
    });
    this.#worker = worker;
    worker.on("message", (answer: WorkerAnswer) => this.#answered(answer));
    worker.on("error", (error) => this.#lost(worker, error));
    worker.on("exit", () => this.#lost(worker, new Error("the store's thread ended")));
    worker.unref();
    try {
      await this.#call("start", []);
    } catch (error) {
      this.#worker = undefined;
      await worker.terminate();
      throw error;
    }
    this.#restartMs = RESTART_MS;
    this.#setUp(true);
  }

  book(records: readonly PricedRecord[], nowMs: number): Promise<Booked> {
    const batch = encodeBatch(records);
    return this.#call<Booked>("bookEncoded", [batch, nowMs], [batch.bytes.buffer as ArrayBuffer]);
  }

  exportEntries(filter: EntryFilter, after: bigint): Promise<readonly Entry[]> {
    return this.#call("exportEntries", [filter, after]);
  }

  costs(query: CostQuery): Promise<readonly CostRow[]> {
    return this.#call("costs", [{ ...query, by: [...query.by] }]);
  }

  totals(): Promise<StoreTotals> {
    return this.#call("totals", []);
  }

  chain(after: bigint, limit: number): Promise<readonly ChainRow[]> {
    return this.#call("chain", [after, limit]);
  }

  rollupSums(): Promise<RollupSums> {
    return this.#call("rollupSums", []);
  }

  hourSums(fromHour: number, untilHour: number): Promise<readonly HourSum[]> {
    return this.#call("hourSums", [fromHour, untilHour]);
  }

  rentedSince(backends: readonly string[], nowMs: number): Promise<ReadonlyMap<string, number>> {
    return this.#call("rentedSince", [[...backends], nowMs]);
  }

  loadBudgets(keys: readonly string[]): Promise<readonly BudgetRow[]> {
    return this.#call("loadBudgets", [[...keys]]);
  }

  saveBudgets(rows: readonly BudgetRow[]): Promise<boolean> {
    return this.#call("saveBudgets", [[...rows]]);
  }

  savePriceBook(version: string, book: Uint8Array, sinceMs: number): Promise<void> {
    return this.#call("savePriceBook", [version, book, sinceMs]);
  }

  pricePeriods(fromMs: number): Promise<readonly StoredPricePeriod[]> {
    return this.#call("pricePeriods", [fromMs]);
  }

  priceBook(version: string): Promise<Uint8Array | undefined> {
    return this.#call("priceBook", [version]);
  }

  loadObservations(): Promise<readonly ObservationRow[]> {
    return this.#call("loadObservations", []);
  }

  saveObservations(rows: readonly ObservationRow[]): Promise<void> {
    return this.#call("saveObservations", [[...rows]]);
  }

  dropObservations(experiment: string, source: string): Promise<void> {
    return this.#call("dropObservations", [experiment, source]);
  }

  loadControl(): Promise<StoredControl | undefined> {
    return this.#call("loadControl", []);
  }

  saveControl(expected: bigint, next: StoredControl): Promise<boolean> {
    return this.#call("saveControl", [expected, next]);
  }

  findAnswer(tenant: string, responseId: string): Promise<AnswerRow | undefined> {
    return this.#call("findAnswer", [tenant, responseId]);
  }

  forgetAnswers(beforeMs: number): Promise<void> {
    return this.#call("forgetAnswers", [beforeMs]);
  }

  saveScore(score: ScoreRow): Promise<Replaced> {
    return this.#call("saveScore", [{ ...score }]);
  }

  scoreSums(experiment: string): Promise<readonly ScoreSums[]> {
    return this.#call("scoreSums", [experiment]);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#restartTimer?.cancel();
    const worker = this.#worker;
    if (!this.#up || worker === undefined) return;
    await this.#call("stop", []);
    this.#worker = undefined;
    this.#setUp(false);
    await worker.terminate();
  }

  #call<T>(method: StoreMethod, args: readonly unknown[], transfer: readonly Transferable[] = []): Promise<T> {
    const worker = this.#worker;
    if (worker === undefined || (!this.#up && method !== "start")) return Promise.reject(storeUnavailable(new Error("not open")));
    return new Promise<T>((resolve, reject) => {
      const id = ++this.#lastId;
      if (this.#pending.size === 0) worker.ref();
      this.#pending.set(id, { resolve: resolve as (value: unknown) => void, reject });
      worker.postMessage({ id, method, args }, transfer);
    });
  }

  #answered(answer: WorkerAnswer): void {
    const call = this.#pending.get(answer.id);
    this.#pending.delete(answer.id);
    if (this.#pending.size === 0) this.#worker?.unref();
    if ("error" in answer) call?.reject(errorFromWire(answer.error));
    else call?.resolve(answer.value);
  }

  /** A thread that died is replaced: what it had in hand is rejected as a whole, and its file is as it was committed last. */
  #lost(worker: Worker, error: Error): void {
    if (this.#worker !== worker) return;
    const wasUp = this.#up;
    this.#worker = undefined;
    for (const call of this.#pending.values()) call.reject(storeUnavailable(error));
    this.#pending.clear();
    this.#setUp(false);
    if (wasUp) this.#restart();
  }

  #restart(): void {
    if (this.#stopped) return;
    this.#restartTimer = this.#clock.after(this.#restartMs, () => {
      this.#restartMs = Math.min(RESTART_MAX_MS, this.#restartMs * 2);
      this.#open().catch(() => this.#restart());
    });
  }

  #setUp(up: boolean): void {
    if (up === this.#up) return;
    this.#up = up;
    for (const listener of this.#listeners) listener(up);
  }
}

function encodeBatch(records: readonly PricedRecord[]): EncodedBatch {
  const parts = records.map(({ record, encoded }) => encoded ?? encodeAttemptRecord(record));
  const bytes = new Uint8Array(parts.reduce((sum, each) => sum + each.length, 0));
  let at = 0;
  for (const each of parts) {
    bytes.set(each, at);
    at += each.length;
  }
  return {
    bytes,
    lengths: Uint32Array.from(parts, (each) => each.length),
    baselines: BigInt64Array.from(records, ({ baselineNanoUsd }) => baselineNanoUsd),
  };
}
