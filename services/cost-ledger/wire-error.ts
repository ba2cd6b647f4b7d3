import { SignalboxError, isReason } from "#libs/errors/index.ts";

/** An error on its way between threads: classes do not survive the journey. */
export interface WorkerError {
  readonly message: string;
  readonly reason?: string;
  readonly code?: string;
  readonly param?: string;
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
