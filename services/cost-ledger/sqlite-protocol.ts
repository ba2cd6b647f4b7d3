import { SignalboxError, isReason } from "#libs/errors/index.ts";
import type { LedgerStore } from "./store.ts";

/** What the worker can be asked. */
export type StoreMethod = Exclude<keyof LedgerStore, "kind" | "up" | "onChange" | "book"> | "bookEncoded";

/** A question to the worker. */
export interface WorkerCall {
  readonly id: number;
  readonly method: StoreMethod;
  readonly args: readonly unknown[];
}

/** An error on its way between threads: classes do not survive the journey. */
export interface WorkerError {
  readonly message: string;
  readonly reason?: string;
  readonly code?: string;
  readonly param?: string;
}

/** The worker's answer. */
export type WorkerAnswer = { readonly id: number; readonly value: unknown } | { readonly id: number; readonly error: WorkerError };

/** Records of a batch, encoded one behind the other. */
export interface EncodedBatch {
  readonly bytes: Uint8Array;
  readonly lengths: Uint32Array;
  readonly baselines: BigInt64Array;
}

/** Flattens an error. */
export function errorToWire(error: unknown): WorkerError {
  if (!(error instanceof SignalboxError)) return { message: error instanceof Error ? error.message : "unknown" };
  const { message, reason, code, param } = error;
  return param === undefined ? { message, reason, code } : { message, reason, code, param };
}

/** The error again. */
export function errorFromWire(error: WorkerError): Error {
  if (error.reason === undefined || !isReason(error.reason)) return new Error(error.message);
  const detail = {
    ...(error.code === undefined ? {} : { code: error.code }),
    ...(error.param === undefined ? {} : { param: error.param }),
  };
  return new SignalboxError(error.reason, error.message, detail);
}
