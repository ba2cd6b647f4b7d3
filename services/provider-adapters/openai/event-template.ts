import { isObject, type Loose } from "./usage.ts";

const BACKSLASH = 0x5c;

/** Members of a delta whose text grows event by event. */
const TEXT_MEMBERS = ["content", "reasoning_content", "reasoning", "refusal"] as const;

/** Random padding some providers add to every event: OpenAI's and Mistral's. */
const PADDINGS = ['"obfuscation":"', '"p":"'] as const;

/** After so many shapes in a row that never came again (each event carries a counter, say), learning is tried more rarely. */
const USELESS_MAX = 8;

/** Then only every so many events. */
const LEARN_EVERY = 16;

/**
 * Recognises, without parsing, events that differ from a parsed one in nothing but the text they carry (and random padding): nearly
 * all of a stream. What surrounds the text is compared byte for byte, so a match has the same identity, no finish reason, no usage and
 * no error, and is well-formed because the first one was.
 *
 * Texts are Latin-1 decodings of the bytes: one character per byte, so that offsets are byte offsets.
 */
export class EventTemplate {
  /** Bytes of text in the event matched last. */
  contentBytes = 0;
  #head = "";
  #middle = "";
  /** Shapes learned in a row that matched nothing. */
  #useless = 0;
  /** Events let pass since the last try to learn. */
  #skipped = 0;
  /** Behind the padding; "" where the provider sends none. */
  #tail = "";

  /** Offset behind the event that begins at `at` when it is of this shape and its text is not empty, else -1. */
  match(text: string, at: number): number {
    const start = at + this.#head.length;
    if (start === at || !holds(text, at, this.#head)) return -1;
    const end = stringEnd(text, start);
    if (end <= start || !holds(text, end, this.#middle)) return -1;
    this.#useless = 0;
    this.contentBytes = end - start;
    const padding = end + this.#middle.length;
    if (this.#tail === "") return padding;
    const paddingEnd = stringEnd(text, padding);
    return paddingEnd >= 0 && holds(text, paddingEnd, this.#tail) ? paddingEnd + this.#tail.length : -1;
  }

  /** Takes `event`, parsed as `chunk` and sound as it is, as the shape of those to come. One that grows no text is not taken. */
  learn(event: Buffer, chunk: Loose): void {
    if (this.#useless >= USELESS_MAX && ++this.#skipped % LEARN_EVERY !== 0) return;
    const grown = grownText(chunk);
    if (grown === undefined) return;
    this.#useless++;
    const text = event.toString("latin1");
    const needle = `"${grown.member}":"`;
    const found = text.indexOf(needle);
    if (found < 0) return;
    const start = found + needle.length;
    const end = stringEnd(text, start);
    if (end < 0 || !isString(event.toString("utf8", start, end), grown.value)) return;
    const padding = PADDINGS.map((name) => ({ name, at: text.indexOf(name, end) })).find(({ at }) => at >= 0);
    this.#head = text.slice(0, start);
    if (padding === undefined) {
      this.#middle = text.slice(end);
      this.#tail = "";
    } else {
      const paddingStart = padding.at + padding.name.length;
      this.#middle = text.slice(end, paddingStart);
      this.#tail = text.slice(Math.max(paddingStart, stringEnd(text, paddingStart)));
    }
  }
}

/** The text a chunk adds to its only choice, and the member that holds it; undefined where it does more than that. */
function grownText(chunk: Loose): { readonly member: string; readonly value: string } | undefined {
  const choices = chunk["choices"];
  if (!Array.isArray(choices) || choices.length !== 1 || !isObject(choices[0]) || !isObject(choices[0]["delta"])) return undefined;
  const delta = choices[0]["delta"];
  const calls = delta["tool_calls"];
  if (Array.isArray(calls) && calls.length > 0) return calls.length === 1 ? grownArguments(calls[0]) : undefined;
  for (const member of TEXT_MEMBERS) {
    const value = delta[member];
    if (typeof value === "string" && value !== "") return { member, value };
  }
  return undefined;
}

function grownArguments(call: unknown): { readonly member: string; readonly value: string } | undefined {
  if (!isObject(call) || !isObject(call["function"]) || (typeof call["id"] === "string" && call["id"] !== "")) return undefined;
  const value = call["function"]["arguments"];
  return typeof value === "string" && value !== "" ? { member: "arguments", value } : undefined;
}

function isString(raw: string, value: string): boolean {
  try {
    return JSON.parse(`"${raw}"`) === value;
  } catch {
    return false;
  }
}

/** Whether `part` stands at `at`. Comparing a substring is three times as fast as `startsWith`, which walks characters. */
function holds(text: string, at: number, part: string): boolean {
  return text.substring(at, at + part.length) === part;
}

/** Offset of the quote that ends the JSON string whose first character is at `start`, or -1. */
function stringEnd(text: string, start: number): number {
  let at = start;
  for (;;) {
    const quote = text.indexOf('"', at);
    if (quote < 0) return -1;
    let slash = quote - 1;
    while (slash >= start && text.charCodeAt(slash) === BACKSLASH) slash--;
    if ((quote - 1 - slash) % 2 === 0) return quote;
    at = quote + 1;
  }
}
