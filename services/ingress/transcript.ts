import { isObject, type JsonObject } from "./openai/parse.ts";

/** Raw events kept before they are read and given up: most streams end long before, and are never read at all. */
const RAW_MAX_BYTES = 256 * 1024;

/** Longest text a backend is asked to continue, characters: some 256k tokens, beyond any output limit. */
const TEXT_MAX_CHARS = 1024 * 1024;

const DATA = "data:";

/** What all chunks of one answer share. */
export interface ChunkIdentity {
  readonly id: unknown;
  readonly created: unknown;
  readonly model: unknown;
}

/** The events in a piece: each with its parsed chunk, or undefined where it is a comment. */
export function readEvents(piece: Uint8Array): { readonly text: string; readonly chunk: JsonObject | undefined }[] {
  const events: { text: string; chunk: JsonObject | undefined }[] = [];
  const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
  for (const text of bytes.toString("utf8").split("\n\n")) {
    if (text === "") continue;
    const value: unknown = text.startsWith(DATA) ? JSON.parse(text.slice(DATA.length)) : undefined;
    events.push({ text, chunk: isObject(value) ? value : undefined });
  }
  return events;
}

/** Members of a delta that may be there without making the answer more than text. */
const PLAIN_MEMBERS = new Set(["role", "content", "refusal"]);

/** Whether all a chunk adds is plain text of the only choice. */
function isPlain(choice: JsonObject, delta: JsonObject): boolean {
  if ((choice["index"] ?? 0) !== 0 || (choice["logprobs"] ?? null) !== null) return false;
  for (const name of Object.keys(delta)) {
    const value = delta[name] ?? "";
    if (value === "" || (Array.isArray(value) && value.length === 0)) continue;
    if (!PLAIN_MEMBERS.has(name) || (name === "refusal" && value !== "")) return false;
  }
  return true;
}

/** What a client was sent of a streamed answer, kept as the bytes that left and read only when it matters. */
export class Transcript {
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  #text = "";
  #identity: ChunkIdentity | undefined;
  #finished = false;
  #plain = true;

  /** Whole events that left for the client. */
  add(piece: Uint8Array): void {
    if (!this.#plain) return;
    this.#pieces.push(piece);
    this.#bytes += piece.length;
    if (this.#bytes >= RAW_MAX_BYTES) this.#read();
  }

  /** The text so far; undefined where the answer holds more than plain text, or more of it than can be continued. */
  text(): string | undefined {
    this.#read();
    return this.#plain ? this.#text : undefined;
  }

  /** Whether the client has a finish reason. */
  get finished(): boolean {
    this.#read();
    return this.#finished;
  }

  /** Identity of the answer's chunks; undefined before the first. */
  get identity(): ChunkIdentity | undefined {
    this.#read();
    return this.#identity;
  }

  #read(): void {
    const pieces = this.#pieces;
    this.#pieces = [];
    this.#bytes = 0;
    const texts: string[] = [];
    for (const piece of pieces) {
      for (const { chunk } of readEvents(piece)) if (chunk !== undefined) this.#readChunk(chunk, texts);
    }
    this.#text += texts.join("");
    if (this.#text.length > TEXT_MAX_CHARS) this.#plain = false;
  }

  #readChunk(chunk: JsonObject, texts: string[]): void {
    this.#identity ??= { id: chunk["id"], created: chunk["created"], model: chunk["model"] };
    const choices = chunk["choices"];
    if (!Array.isArray(choices)) return;
    for (const choice of choices as readonly unknown[]) {
      if (!isObject(choice)) continue;
      const delta = isObject(choice["delta"]) ? choice["delta"] : {};
      if (!isPlain(choice, delta)) this.#plain = false;
      if (typeof delta["content"] === "string") texts.push(delta["content"]);
      if (typeof choice["finish_reason"] === "string") this.#finished = true;
    }
  }
}
