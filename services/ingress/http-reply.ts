import type { ServerResponse } from "node:http";
import type { SignalboxError } from "#libs/errors/index.ts";
import { formatAmount } from "#libs/money/index.ts";
import { RESPONSE_QUEUE_BYTES } from "./limits.ts";
import { errorBody, errorEvent, retryAfterMs, shouldRetry } from "./openai/errors.ts";
import { DONE_EVENT, KEEP_ALIVE_EVENT, withCost } from "./openai/stream.ts";
import type { Reply, ReplyFacts } from "./reply.ts";

/** Most warnings and characters of them in one header: some proxies refuse headers above 4 KiB. */
const WARNINGS_MAX_CHARS = 1_024;

/**
 * Up to this size, bytes go to node as Latin-1 text, a character for each: head, frame and body then leave in one plain write where
 * buffers beside text take a gathering one, which costs more than the copy. Node writes that much from its stack.
 */
const TEXT_MAX_BYTES = 12 * 1024;

const CRLF = Buffer.from("\r\n");

/** Ends a chunked body. */
const LAST_CHUNK = "0\r\n\r\n";

function joined(pieces: readonly Uint8Array[]): Uint8Array {
  return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
}

function latin1Of(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

/** Header values are Latin-1 text without controls; what is not becomes `?`. */
export function headerText(value: string): string {
  // oxlint-disable-next-line no-control-regex -- controls are what must not get into a header
  return value.replace(/[^\x20-\x7e]/g, "?");
}

/** With one digit; `toFixed` works on decimals of any length and costs ten times as much. */
function milliseconds(value: number): string {
  const tenths = Math.round(value * 10);
  return `${Math.trunc(tenths / 10)}.${Math.abs(tenths % 10)}`;
}

/** Writes status and headers of an OpenAI-shaped error; the body is to follow. */
export function writeErrorHead(response: ServerResponse, error: SignalboxError, requestId: string, headers: readonly string[]): Buffer {
  const body = Buffer.from(errorBody(error, requestId));
  const flat = ["content-type", "application/json", "content-length", String(body.length), "x-should-retry", String(shouldRetry(error))];
  const waitMs = retryAfterMs(error);
  if (waitMs !== undefined)
    flat.push("retry-after", String(Math.max(1, Math.ceil(waitMs / 1000))), "retry-after-ms", String(Math.ceil(waitMs)));
  flat.push(...headers);
  // 499 is for logs only; the client that caused it is gone.
  response.writeHead(error.httpStatus === 499 ? 400 : error.httpStatus, flat);
  return body;
}

/** Writes an OpenAI-shaped error as a whole response. */
export function sendError(response: ServerResponse, error: SignalboxError, requestId: string, headers: readonly string[]): void {
  response.end(writeErrorHead(response, error, requestId, headers));
}

/** One HTTP response as a {@link Reply}. Pieces of one tick leave in one write. */
export class HttpReply implements Reply {
  readonly #response: ServerResponse;
  /** Asks at the last moment whether this connection is to be closed after the answer. */
  readonly #isClosing: () => boolean;
  readonly #readerTimeoutMs: number;
  #opened = false;
  #over = false;
  #full = false;
  #pieces: Uint8Array[] = [];
  /** Bytes gathered in this tick. */
  #gatheredBytes = 0;
  #flushing = false;
  /** Whether pieces are framed as chunks (RFC 9112, 7.1), which is done here: node's own framing is four writes for each. */
  #framed = false;
  #onDrained: () => void = () => {};

  /** A reader that takes nothing of a finished answer for `readerTimeoutMs` is cut off; before, dispatch watches it. */
  constructor(response: ServerResponse, isClosing: () => boolean, readerTimeoutMs: number) {
    this.#response = response;
    this.#isClosing = isClosing;
    this.#readerTimeoutMs = readerTimeoutMs;
  }

  /** Calls `listener` whenever a reader that was full takes bytes again. */
  whenDrained(listener: () => void): void {
    this.#onDrained = listener;
    this.#response.on("drain", () => this.#drained());
  }

  open(facts: ReplyFacts): void {
    this.#opened = true;
    const headers = ["content-type", "text/event-stream; charset=utf-8", "cache-control", "no-cache", "x-accel-buffering", "no"];
    this.#response.writeHead(200, this.#withRouting(headers, facts));
    this.#framed = this.#response.chunkedEncoding;
    this.#response.chunkedEncoding = false;
  }

  write(bytes: Uint8Array): boolean {
    this.#pieces.push(bytes);
    this.#gatheredBytes += bytes.length;
    if (!this.#flushing) {
      this.#flushing = true;
      process.nextTick(flushReply, this);
    }
    if (this.#gatheredBytes >= RESPONSE_QUEUE_BYTES) this.#full = true;
    return !this.#full;
  }

  keepAlive(): void {
    this.write(KEEP_ALIVE_EVENT);
    if (this.#response.headersSent) return;
    this.#response.flushHeaders();
  }

  finish(facts: ReplyFacts, usageEvent: Uint8Array | undefined): void {
    if (usageEvent !== undefined) this.#pieces.push(facts.costNanoUsd === undefined ? usageEvent : withCost(usageEvent, facts.costNanoUsd));
    this.#pieces.push(DONE_EVENT);
    this.#end();
  }

  whole(facts: ReplyFacts, pieces: readonly Uint8Array[]): void {
    let length = 0;
    for (const piece of pieces) length += piece.length;
    const headers = ["content-type", "application/json", "content-length", String(length)];
    if (facts.costNanoUsd !== undefined) headers.push("x-signalbox-cost-usd", formatAmount(facts.costNanoUsd));
    this.#over = true;
    this.#response.writeHead(200, this.#withRouting(headers, facts));
    const body = joined(pieces);
    if (length <= TEXT_MAX_BYTES) this.#response.end(latin1Of(body), "latin1");
    else this.#response.end(body);
    this.#watchTail();
  }

  fail(error: SignalboxError, facts: ReplyFacts): void {
    if (this.#over) return;
    if (this.#opened) {
      this.#pieces.push(Buffer.from(errorEvent(error, facts.requestId)));
      return this.#end();
    }
    this.#over = true;
    sendError(this.#response, error, facts.requestId, this.#withRouting([], facts));
  }

  drop(): void {
    this.#over = true;
    this.#response.destroy();
  }

  pendingBytes(): number {
    return this.#response.writableLength;
  }

  /** Writes what the tick gathered. */
  flush(): void {
    this.#flushing = false;
    if (this.#over || this.#pieces.length === 0) return;
    const pieces = this.#pieces;
    this.#pieces = [];
    this.#gatheredBytes = 0;
    if (!this.#send(joined(pieces))) this.#full = true;
    else if (this.#full) this.#drained();
  }

  /** False when the reader is full. */
  #send(bytes: Uint8Array): boolean {
    // An empty chunk would end the body.
    if (!this.#framed || bytes.length === 0) return this.#response.write(bytes);
    const head = `${bytes.length.toString(16)}\r\n`;
    if (bytes.length <= TEXT_MAX_BYTES) return this.#response.write(`${head}${latin1Of(bytes)}\r\n`, "latin1");
    return this.#response.write(Buffer.concat([Buffer.from(head), bytes, CRLF]));
  }

  #drained(): void {
    this.#full = false;
    this.#onDrained();
  }

  #end(): void {
    this.#over = true;
    const pieces = this.#pieces;
    this.#pieces = [];
    const bytes = joined(pieces);
    if (!this.#framed) this.#response.end(bytes);
    else if (bytes.length <= TEXT_MAX_BYTES) {
      this.#response.end(`${bytes.length.toString(16)}\r\n${latin1Of(bytes)}\r\n${LAST_CHUNK}`, "latin1");
    } else {
      this.#send(bytes);
      this.#response.end(LAST_CHUNK, "latin1");
    }
    this.#watchTail();
  }

  /** What the system did not take yet waits for the reader; node's own limit counts every byte it takes as life, and ends with the answer. */
  #watchTail(): void {
    if (this.#response.writableLength > 0) this.#response.socket?.setTimeout(this.#readerTimeoutMs);
  }

  #withRouting(headers: string[], facts: ReplyFacts): string[] {
    headers.push("x-request-id", facts.requestId);
    if (facts.decisionId !== "") headers.push("x-signalbox-decision-id", facts.decisionId);
    if (facts.backend !== "") headers.push("x-signalbox-backend", headerText(facts.backend));
    if (facts.model !== "") headers.push("x-signalbox-model", headerText(facts.model));
    if (facts.attempts > 0) headers.push("x-signalbox-attempts", String(facts.attempts));
    if (facts.experiment !== "") headers.push("x-signalbox-experiment", headerText(facts.experiment));
    if (facts.warnings.length > 0) {
      headers.push("x-signalbox-warnings", headerText(facts.warnings.join("; ").slice(0, WARNINGS_MAX_CHARS)));
    }
    const { queueMs, routeMs, upstreamMs } = facts;
    headers.push(
      "server-timing",
      `queue;dur=${milliseconds(queueMs)}, route;dur=${milliseconds(routeMs)}, upstream;dur=${milliseconds(upstreamMs)}`,
    );
    if (this.#isClosing()) headers.push("connection", "close");
    return headers;
  }
}

function flushReply(reply: HttpReply): void {
  reply.flush();
}
