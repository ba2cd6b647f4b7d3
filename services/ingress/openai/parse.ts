import { isUtf8 } from "node:buffer";
import { SignalboxError } from "#libs/errors/index.ts";
import { JSON_DEPTH_MAX } from "../limits.ts";

/** A parsed JSON object whose members are still unknown. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** Whether a parsed value is a JSON object. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function invalidJson(message: string): SignalboxError {
  return new SignalboxError("REQUEST_MALFORMED", message, { code: "invalid_json" });
}

/**
 * Parses a request body: UTF-8 without byte order mark, one JSON object, at most 128 levels deep, no key `__proto__`, only
 * well-formed strings. Throws REQUEST_MALFORMED `invalid_json` on anything else, so that no later stage meets such a value.
 */
export function parseBody(bytes: Uint8Array): JsonObject {
  if (bytes.length === 0) throw invalidJson("The request body is empty; a JSON object is expected.");
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) throw invalidJson("The request body begins with a byte order mark.");
  if (!isUtf8(bytes)) throw invalidJson("The request body is not valid UTF-8.");
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString());
  } catch (cause) {
    throw new SignalboxError("REQUEST_MALFORMED", "The request body is not valid JSON.", { code: "invalid_json", cause });
  }
  if (!isObject(value)) throw invalidJson("The request body must be a JSON object.");
  inspect(value);
  return value;
}

/** Walks the value with a stack of its own: a body made to overflow the call stack is exactly what it looks for. */
function inspect(root: JsonObject): void {
  const pending: unknown[] = [root];
  const depths: number[] = [1];
  while (pending.length > 0) {
    const value = pending.pop();
    const depth = depths.pop()!;
    if (depth > JSON_DEPTH_MAX) throw invalidJson(`The request body is nested deeper than ${JSON_DEPTH_MAX} levels.`);
    if (Array.isArray(value)) {
      for (const item of value as readonly unknown[]) {
        if (typeof item === "string") checkText(item);
        else if (typeof item === "object" && item !== null) {
          pending.push(item);
          depths.push(depth + 1);
        }
      }
      continue;
    }
    const members = value as JsonObject;
    for (const key of Object.keys(members)) {
      if (key === "__proto__") throw invalidJson("The request body has a key named __proto__.");
      checkText(key);
      const member = members[key];
      if (typeof member === "string") checkText(member);
      else if (typeof member === "object" && member !== null) {
        pending.push(member);
        depths.push(depth + 1);
      }
    }
  }
}

function checkText(text: string): void {
  if (!text.isWellFormed()) throw invalidJson("The request body has a string with a lone surrogate.");
}
