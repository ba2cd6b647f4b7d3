import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { SignalboxError } from "#libs/errors/index.ts";

/** Admin bodies are small; 1 MiB leaves room for a pasted configuration. */
const BODY_MAX_BYTES = 1024 * 1024;

/** Answers with one JSON object. */
export function sendJson(response: ServerResponse, status: number, value: unknown): void {
  const body = Buffer.from(`${JSON.stringify(value)}\n`);
  response.writeHead(status, { "content-type": "application/json", "content-length": body.length, "cache-control": "no-store" });
  response.end(body);
}

/** Answers with plain text. */
export function sendText(response: ServerResponse, status: number, text: string, type = "text/plain; charset=utf-8"): void {
  response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(text), "cache-control": "no-store" });
  response.end(text);
}

/** Answers with an error in the product's shape. Anything that is no SignalboxError says only that it is internal. */
export function sendError(response: ServerResponse, failure: unknown): void {
  const error = failure instanceof SignalboxError ? failure : new SignalboxError("INTERNAL", "Internal error; see the log.");
  if (response.headersSent) {
    response.destroy();
    return;
  }
  sendJson(response, error.httpStatus, {
    error: { message: error.message, type: error.type, param: error.param ?? null, code: error.code },
    request_id: randomUUID(),
  });
}

/** The request's JSON object. An empty body is an empty object. */
export async function readJson(request: IncomingMessage): Promise<Record<string, unknown>> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > BODY_MAX_BYTES) throw new SignalboxError("REQUEST_TOO_LARGE", `An admin request may have ${BODY_MAX_BYTES} bytes.`);
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString("utf8");
  if (text.trim() === "") return {};
  try {
    const value: unknown = JSON.parse(text);
    if (value !== null && typeof value === "object" && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // falls through to the one message for both
  }
  throw new SignalboxError("REQUEST_MALFORMED", "The body must be one JSON object.", { code: "invalid_json" });
}

/** A string member, or undefined when absent. Throws when it is something else. */
export function stringOf(body: Record<string, unknown>, name: string): string | undefined {
  const value = body[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "string") throw new SignalboxError("REQUEST_MALFORMED", `${name} must be a string.`, { param: name });
  return value;
}

/** A list of strings, empty when absent. Throws when it is something else. */
export function stringsOf(body: Record<string, unknown>, name: string): string[] {
  const value = body[name] ?? [];
  if (!Array.isArray(value) || value.some((item) => typeof item !== "string"))
    throw new SignalboxError("REQUEST_MALFORMED", `${name} must be a list of strings.`, { param: name });
  return value as string[];
}

/** Largest count: what goes on to other services is 32 bits wide. */
const COUNT_MAX = 2 ** 32 - 1;

/** A non-negative whole number, 0 when absent. Throws when it is something else. */
export function countOf(body: Record<string, unknown>, name: string): number {
  const value = body[name] ?? 0;
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > COUNT_MAX)
    throw new SignalboxError("REQUEST_MALFORMED", `${name} must be a whole number from 0 to ${COUNT_MAX}.`, { param: name });
  return value;
}
