import type { AttemptError } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { scanTopLevel, spliceTopLevel } from "#libs/json-bytes/index.ts";
import { type AnswerFacts, attemptError, type DecodeContext, EVENT_MAX_BYTES, type StreamDecoder, type StreamOutput } from "../codec.ts";
import { readEvents, SseFramer } from "../sse/index.ts";
import { ChunkReader, type ChunkVerdict } from "./chunk.ts";
import { EventTemplate } from "./event-template.ts";
import { isErrorObject, mapErrorInside } from "./map-error.ts";
import { isObject, type Loose, openaiUsage } from "./usage.ts";

const PREFIX = Buffer.from("data: ");
const SUFFIX = Buffer.from("\n\n");
const DATA = "data:";
const LINE_FEED = 0x0a;
const SPACE = 0x20;

/**
 * Reads an OpenAI-shaped stream. Events that need nothing are passed on as the byte ranges they came in; the first chunk, and
 * any chunk with a finish reason, usage, an error or a quirk, is parsed. An answer counts as complete only with a finish reason,
 * or with [DONE], which then gets one; everything else is UPSTREAM_PROTOCOL.
 */
export class OpenaiStreamDecoder implements StreamDecoder {
  readonly #output: StreamOutput;
  readonly #framer: SseFramer;
  readonly #template = new EventTemplate();
  readonly #chunks: ChunkReader;
  #contentBytes = 0;
  #contentEvents = 0;
  #over = false;

  constructor(context: DecodeContext, output: StreamOutput) {
    this.#output = output;
    this.#framer = new SseFramer(EVENT_MAX_BYTES, {
      block: (bytes) => this.#readBlock(bytes),
      overflow: () => this.#fail(attemptError("UPSTREAM_PROTOCOL", "The provider sent an event that does not end.", { httpStatus: 200 })),
    });
    this.#chunks = new ChunkReader(context);
  }

  push(chunk: Uint8Array): void {
    if (!this.#over) this.#framer.push(chunk);
  }

  finish(): void {
    if (this.#over) return;
    const rest = this.#framer.takeRest();
    if (rest.length > 0) this.#readBlock(Buffer.concat([rest, SUFFIX]));
    if (this.#over) return;
    if (this.#chunks.begun && this.#chunks.unfinished().length === 0) this.#complete();
    else this.#fail(attemptError("UPSTREAM_PROTOCOL", "The provider's stream ended without a finish reason.", { httpStatus: 200 }));
  }

  facts(): AnswerFacts {
    const chunks = this.#chunks;
    return {
      usage: chunks.usage,
      finishReason: chunks.finishReason,
      upstreamModel: chunks.model,
      responseId: chunks.id,
      contentBytes: this.#contentBytes + chunks.contentBytes,
      contentEvents: this.#contentEvents + chunks.contentEvents,
    };
  }

  /** Walks whole events; runs of those the template knows go out in one piece, unparsed. */
  #readBlock(bytes: Buffer): void {
    const template = this.#template;
    const text = bytes.toString("latin1");
    let runStart = 0;
    let runEvents = 0;
    let at = 0;
    while (at < text.length && !this.#over) {
      const knownEnd = template.match(text, at);
      if (knownEnd > 0) {
        runEvents++;
        this.#contentBytes += template.contentBytes;
        at = knownEnd;
        continue;
      }
      this.#passRun(bytes, runStart, at, runEvents);
      runEvents = 0;
      const end = text.charCodeAt(at) === LINE_FEED ? at + 1 : behindEvent(text, at);
      if (end > at + 1) this.#readEvent(bytes.subarray(at, end));
      runStart = at = end;
    }
    this.#passRun(bytes, runStart, at, runEvents);
  }

  #passRun(bytes: Buffer, from: number, to: number, events: number): void {
    if (events === 0 || this.#over) return;
    this.#contentEvents += events;
    this.#output.data(from === 0 && to === bytes.length ? bytes : bytes.subarray(from, to), true, events);
  }

  /** One event that is not plain: a comment, [DONE], an error, or a chunk to be parsed. */
  #readEvent(event: Buffer): void {
    const { name, data } = readOne(event);
    if (data === undefined) return;
    if (data.trim() === "[DONE]") return this.#done();
    let chunk: unknown;
    try {
      chunk = JSON.parse(data);
    } catch {
      return this.#fail(attemptError("UPSTREAM_PROTOCOL", "The provider sent an event that is not JSON.", { httpStatus: 200 }));
    }
    if (!isObject(chunk)) return this.#fail(attemptError("UPSTREAM_PROTOCOL", "The provider sent an unknown event.", { httpStatus: 200 }));
    if (name === "error" || isErrorObject(chunk)) return this.#fail(mapErrorInside(chunk));
    this.#emit(this.#chunks.read(chunk), event, data, chunk);
  }

  #emit(verdict: ChunkVerdict, event: Buffer, data: string, chunk: Loose): void {
    switch (verdict.kind) {
      case "drop":
      case "usage":
        return;
      case "failed":
        return this.#fail(verdict.error);
      case "pass":
        return this.#pass(event, data, chunk, verdict.content);
      case "change":
        return this.#output.data(eventOf(changed(data, chunk, verdict.members)), verdict.content, verdict.content ? 1 : 0);
    }
  }

  #pass(event: Buffer, data: string, chunk: Loose, content: boolean): void {
    const plain = isPlainEvent(event);
    if (plain && content) this.#template.learn(event, chunk);
    this.#output.data(plain ? event : eventOf(Buffer.from(data)), content, content ? 1 : 0);
  }

  /** [DONE]: choices without a finish reason get one. */
  #done(): void {
    if (!this.#chunks.begun) {
      this.#fail(attemptError("UPSTREAM_PROTOCOL", "The provider's stream held no answer.", { httpStatus: 200 }));
      return;
    }
    for (const { index, tools } of this.#chunks.unfinished()) {
      const reason = tools ? "tool_calls" : "stop";
      if (this.#chunks.finishReason === "") this.#chunks.finishReason = reason;
      const choices = [{ index, delta: {}, finish_reason: reason }];
      this.#output.data(eventOf(Buffer.from(JSON.stringify({ ...this.#chunks.identity(), choices }))), false, 0);
    }
    this.#complete();
  }

  #complete(): void {
    this.#over = true;
    const reason = this.#chunks.finishReason;
    const empty = this.#contentBytes + this.#chunks.contentBytes === 0;
    this.#output.end({
      error: undefined,
      usageEvent: this.#chunks.wantsUsage ? this.#usageEvent() : undefined,
      garbage: empty && reason !== "content_filter" && reason !== "length",
    });
  }

  #usageEvent(): Uint8Array {
    const { usage, rawUsage } = this.#chunks;
    const shown = usage?.anomaly === true ? openaiUsage(usage) : withTotal(rawUsage ?? {});
    return eventOf(Buffer.from(JSON.stringify({ ...this.#chunks.identity(), choices: [], usage: shown })));
  }

  #fail(error: AttemptError): void {
    if (this.#over) return;
    this.#over = true;
    this.#output.end({ error, usageEvent: undefined, garbage: false });
  }
}

/** Offset behind the event at `at`, its empty line included. */
function behindEvent(text: string, at: number): number {
  const end = text.indexOf("\n\n", at);
  return end < 0 ? text.length : end + 2;
}

/** `total_tokens` is required by the API; some leave it out. */
function withTotal(raw: Loose): Loose {
  const prompt = raw["prompt_tokens"];
  const completion = raw["completion_tokens"];
  if (typeof prompt !== "number" || typeof completion !== "number" || typeof raw["total_tokens"] === "number") return raw;
  return { ...raw, total_tokens: prompt + completion };
}

/** One `data:` line and the empty one: what a client's parser reads like ours. */
function isPlainEvent(event: Buffer): boolean {
  return event.indexOf(LINE_FEED) === event.length - SUFFIX.length && event.toString("latin1", 0, DATA.length) === DATA;
}

/** Name and data of one event; most are a single `data:` line. */
function readOne(event: Buffer): { readonly name: string; readonly data: string | undefined } {
  if (isPlainEvent(event)) {
    const start = event[DATA.length] === SPACE ? DATA.length + 1 : DATA.length;
    return { name: "", data: event.toString("utf8", start, event.length - SUFFIX.length) };
  }
  let read: { name: string; data: string | undefined } = { name: "", data: undefined };
  readEvents(event, { event: (name, data) => void (read = { name, data }) });
  return read;
}

function eventOf(json: Uint8Array): Buffer {
  return Buffer.concat([PREFIX, json, SUFFIX]);
}

/** The chunk with members replaced; spliced where it can be, so that what is not ours stays byte for byte. */
function changed(data: string, chunk: Loose, members: Loose): Uint8Array {
  const bytes = Buffer.from(data);
  const fields = scanTopLevel(bytes);
  if (fields === undefined) return Buffer.from(JSON.stringify({ ...chunk, ...members }));
  const edits = new Map<string, Uint8Array | null>();
  for (const name in members) edits.set(name, Buffer.from(JSON.stringify(members[name])));
  return spliceTopLevel(bytes, fields, edits);
}
