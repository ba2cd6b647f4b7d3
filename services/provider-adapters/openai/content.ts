import { isObject, type Loose } from "./usage.ts";

/** Members of a delta or message that are content when they are not empty. */
const TEXT_MEMBERS = ["content", "reasoning_content", "reasoning", "refusal"] as const;

/** Bytes a `null` of audio or other unknown content stands for: something was said, how much is unknown. */
const UNKNOWN_CONTENT_BYTES = 1;

/** Bytes of content in a delta or a message, about: text, reasoning, refusal, tool calls, audio. 0 = nothing was said. */
export function saidBytes(delta: Loose | undefined): number {
  if (delta === undefined) return 0;
  let bytes = 0;
  for (const name of TEXT_MEMBERS) {
    const value = delta[name];
    if (typeof value === "string") bytes += value.length;
    else if (Array.isArray(value)) bytes += partsBytes(value);
  }
  if (Array.isArray(delta["tool_calls"])) for (const call of delta["tool_calls"] as readonly unknown[]) bytes += callBytes(call);
  if (isObject(delta["function_call"])) bytes += functionBytes(delta["function_call"]);
  if (isObject(delta["audio"])) bytes += UNKNOWN_CONTENT_BYTES;
  return bytes;
}

function callBytes(call: unknown): number {
  if (!isObject(call)) return 0;
  const body = isObject(call["function"]) ? call["function"] : isObject(call["custom"]) ? call["custom"] : {};
  return functionBytes(body) || (typeof call["id"] === "string" && call["id"] !== "" ? UNKNOWN_CONTENT_BYTES : 0);
}

function functionBytes(body: Loose): number {
  let bytes = 0;
  for (const name of ["name", "arguments", "input"]) if (typeof body[name] === "string") bytes += body[name].length;
  return bytes;
}

function partsBytes(parts: readonly unknown[]): number {
  let bytes = 0;
  for (const part of parts) bytes += textOfPart(part).length + (isObject(part) ? thinkingOf(part).length : 0);
  return bytes;
}

function textOfPart(part: unknown): string {
  if (typeof part === "string") return part;
  return isObject(part) && part["type"] !== "thinking" && typeof part["text"] === "string" ? part["text"] : "";
}

function thinkingOf(part: Loose): string {
  if (part["type"] !== "thinking") return "";
  const thinking = part["thinking"];
  if (typeof thinking === "string") return thinking;
  return Array.isArray(thinking) ? (thinking as readonly unknown[]).map((piece) => textOfPart(piece)).join("") : "";
}

/** Mistral's content as a list of parts, as the text it holds, with what it thought in `reasoning_content`. Others come back as they are. */
export function flattenContent(delta: Loose): Loose {
  const parts = delta["content"];
  if (!Array.isArray(parts)) return delta;
  let text = "";
  let thinking = "";
  for (const part of parts as readonly unknown[]) {
    text += textOfPart(part);
    if (isObject(part)) thinking += thinkingOf(part);
  }
  return thinking === "" ? { ...delta, content: text } : { ...delta, content: text, reasoning_content: thinking };
}
