import type { IncomingMessage, ServerResponse } from "node:http";
import { SignalboxError } from "#libs/errors/index.ts";
import type { PathValues } from "./routes.ts";

/** One call of the admin API. */
export interface AdminCall {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly query: URLSearchParams;
  readonly values: PathValues;
}

/** Handles one call; a throw becomes the error answer. */
export type AdminHandler = (call: AdminCall) => Promise<void> | void;

/** A time in the query: ISO 8601 or ms since the epoch; 0 when absent. */
export function timeOf(query: URLSearchParams, name: string): number {
  const text = query.get(name);
  if (text === null || text === "") return 0;
  const ms = /^\d+$/.test(text) ? Number(text) : Date.parse(text);
  if (Number.isNaN(ms))
    throw new SignalboxError("REQUEST_MALFORMED", `${name} is a time (ISO 8601, or ms since the epoch).`, { param: name });
  return ms;
}
