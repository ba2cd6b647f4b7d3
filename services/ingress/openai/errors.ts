import type { SignalboxError } from "#libs/errors/index.ts";

/** Retry hint, ms, where a table row says "retry" and nobody knows better. */
const RETRY_AFTER_DEFAULT_MS = 1_000;

/** Longest message or param shown to a caller, characters. */
const TEXT_MAX = 2_000;

/** The body of an error: `{"error":{message,type,param,code},"request_id"}`. */
export function errorBody(error: SignalboxError, requestId: string): string {
  return JSON.stringify({ error: errorObject(error), request_id: requestId });
}

/** The event that ends a failed stream. No `[DONE]` follows it. */
export function errorEvent(error: SignalboxError, requestId: string): string {
  return `data: ${errorBody(error, requestId)}\n\n`;
}

function errorObject(error: SignalboxError): { message: string; type: string; param: string | null; code: string } {
  return {
    message: error.message.slice(0, TEXT_MAX),
    type: error.type,
    param: error.param === undefined || error.param === "" ? null : error.param.slice(0, TEXT_MAX),
    code: error.code,
  };
}

/** Whether a client may retry, as `x-should-retry` says it. */
export function shouldRetry(error: SignalboxError): boolean {
  return error.row.retry;
}

/** When a client may retry, ms; undefined where it should not. */
export function retryAfterMs(error: SignalboxError): number | undefined {
  if (!error.row.retry) return error.retryAfterMs;
  return error.retryAfterMs !== undefined && error.retryAfterMs > 0 ? error.retryAfterMs : RETRY_AFTER_DEFAULT_MS;
}
