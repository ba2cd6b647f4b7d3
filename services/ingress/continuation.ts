import { isObject, type JsonObject } from "./openai/parse.ts";
import { Overlap } from "./overlap.ts";
import { type ChunkIdentity, readEvents } from "./transcript.ts";

const NOTHING = new Uint8Array(0);

/** Turns the events of a backend that continues an answer into events of that answer: same identity, one role, nothing twice. */
export class Continuation {
  readonly #identity: ChunkIdentity | undefined;
  readonly #overlap: Overlap;

  constructor(identity: ChunkIdentity | undefined, delivered: string) {
    this.#identity = identity;
    this.#overlap = new Overlap(delivered);
  }

  /** What of a piece of whole events goes to the client; may be empty. */
  pass(piece: Uint8Array): Uint8Array {
    let out = "";
    for (const { text, chunk } of readEvents(piece)) {
      if (chunk === undefined) out += `${text}\n\n`;
      else out += this.#chunk(chunk);
    }
    return out === "" ? NOTHING : Buffer.from(out);
  }

  /** The usage of the whole answer, of which `tokens` came before: the prompt does not count what we put behind it. */
  usageEvent(event: Uint8Array, tokens: number): Uint8Array {
    const [read] = readEvents(event);
    const usage = read?.chunk?.["usage"];
    if (read?.chunk === undefined || !isObject(usage)) return event;
    const prompt = Math.max(0, countOf(usage["prompt_tokens"]) - tokens);
    const completion = countOf(usage["completion_tokens"]) + tokens;
    const whole = { ...usage, prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion };
    return Buffer.from(eventText({ ...read.chunk, ...this.#identity, usage: whole }));
  }

  #chunk(chunk: JsonObject): string {
    const choice: unknown = Array.isArray(chunk["choices"]) ? chunk["choices"][0] : undefined;
    if (!isObject(choice)) return "";
    const said = isObject(choice["delta"]) && typeof choice["delta"]["content"] === "string" ? choice["delta"]["content"] : "";
    const finish = choice["finish_reason"] ?? null;
    const isEnd = finish !== null;
    const text = this.#overlap.take(said) + (isEnd ? this.#overlap.rest() : "");
    if (text === "" && !isEnd) return "";
    const delta = text === "" ? {} : { content: text };
    return eventText({ ...chunk, ...this.#identity, choices: [{ ...choice, delta, finish_reason: finish }] });
  }
}

function countOf(value: unknown): number {
  return typeof value === "number" ? value : 0;
}

function eventText(chunk: JsonObject): string {
  return `data: ${JSON.stringify(chunk)}\n\n`;
}
