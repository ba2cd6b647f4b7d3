import { parentPort, workerData } from "node:worker_threads";
import { RECORD, type PricedRecord } from "./entries/index.ts";
import { SqliteDatabase } from "./sqlite-database.ts";
import type { Booked, LedgerStore } from "./store.ts";
import { errorToWire, type WorkerError } from "./wire-error.ts";

/** What the worker can be asked. */
export type StoreMethod = Exclude<keyof LedgerStore, "kind" | "appendOnly" | "up" | "onChange" | "book"> | "bookEncoded";

/** A question to the worker. */
interface WorkerCall {
  readonly id: number;
  readonly method: StoreMethod;
  readonly args: readonly unknown[];
}

/** The worker's answer. */
export type WorkerAnswer = { readonly id: number; readonly value: unknown } | { readonly id: number; readonly error: WorkerError };

/** Records of a batch, encoded one behind the other. */
export interface EncodedBatch {
  readonly bytes: Uint8Array;
  readonly lengths: Uint32Array;
  readonly baselines: BigInt64Array;
}

/** The thread that waits for the disk in place of the event loop. One call after the other, in order. */
const database = new SqliteDatabase(workerData as string);
const port = parentPort!;

port.on("message", (call: WorkerCall) => {
  const answer = (message: WorkerAnswer): void => port.postMessage(message);
  run(call.method, call.args).then(
    (value) => {
      answer({ id: call.id, value });
      if (call.method === "stop") port.close();
    },
    (error: unknown) => answer({ id: call.id, error: errorToWire(error) }),
  );
});

function run(method: StoreMethod, args: readonly unknown[]): Promise<unknown> {
  if (method === "bookEncoded") return bookEncoded(args[0] as EncodedBatch, args[1] as number);
  return (database[method] as (...values: unknown[]) => Promise<unknown>).apply(database, [...args]);
}

function bookEncoded(batch: EncodedBatch, nowMs: number): Promise<Booked> {
  const records: PricedRecord[] = [];
  let at = 0;
  for (const [index, length] of batch.lengths.entries()) {
    const encoded = batch.bytes.subarray(at, at + length);
    records.push({ record: RECORD.decode(encoded), encoded, baselineNanoUsd: batch.baselines[index]! });
    at += length;
  }
  return database.book(records, nowMs);
}
