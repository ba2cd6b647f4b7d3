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

/** `since` and `until` of the query (ISO 8601, or ms since the epoch), those that are there. */
export function periodOf(query: URLSearchParams): { readonly sinceMs?: number; readonly untilMs?: number } {
  const sinceMs = timeOf(query, "since");
  const untilMs = timeOf(query, "until");
  return { ...(sinceMs === undefined ? {} : { sinceMs }), ...(untilMs === undefined ? {} : { untilMs }) };
}

function timeOf(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === "") return undefined;
  const ms = /^\d+$/.test(text) ? Number(text) : Date.parse(text);
  if (Number.isNaN(ms))
    throw new SignalboxError("REQUEST_MALFORMED", `${name} is a time (ISO 8601, or ms since the epoch).`, { param: name });
  return ms;
}
