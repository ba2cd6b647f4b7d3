import { type AttemptEnd, type AttemptOpen, Dialect } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { Outcome, type RateLimitState } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Clock } from "#libs/clock/index.ts";
import { ATTEMPT_WINDOW_BYTES, type AttemptHandle, type AttemptSink, type CancelReason } from "#libs/peers/index.ts";
import { attemptEnd, beginError, cancelledEnding, type Ending, NO_ANSWER } from "./attempt-end.ts";
import { BodyCollector } from "./body-collector.ts";
import {
  type AnswerFacts,
  attemptError,
  type AttemptReason,
  BODY_MAX_BYTES,
  type DecodeContext,
  type EncodedRequest,
  ERROR_BODY_MAX_BYTES,
  headerOf,
  type StreamDecoder,
  type StreamEnd,
  type UpstreamHeaders,
} from "./codec.ts";
import type { BackendEntry } from "./registry.ts";
import { TIME_OUT_MESSAGE, timeOutOf } from "./time-outs.ts";
import type { Sweepable, Sweeper, Transport, UpstreamCall, UpstreamFailure, UpstreamListener } from "./upstream/index.ts";

/** After [DONE] a provider has this long to end its response, so that the connection can be used again. */
const LINGER_MS = 1_000;

/** A chunk of a stream below this, without a line's end, does not count as a sign of life. */
const DRIP_BYTES = 1_024;

const LINE_FEED = 0x0a;

/** What every attempt needs. */
export interface AttemptDeps {
  readonly clock: Clock;
  readonly transport: Transport;
  readonly sweeper: Sweeper;
  readonly replica: string;
  /** Called once, right before the sink's `end`. */
  ended(attempt: Attempt, end: AttemptEnd): void;
}

/** How the answer is being read. */
type Mode = "waiting" | "stream" | "body" | "error";

/** One call to one backend: encode, send, decode, with window, time-outs and an end that comes exactly once. */
export class Attempt implements AttemptHandle, UpstreamListener, Sweepable {
  readonly open: AttemptOpen;
  readonly entry: BackendEntry;
  readonly replica: string;
  readonly #deps: AttemptDeps;
  readonly #sink: AttemptSink;
  readonly #startMs: number;
  #request: EncodedRequest | undefined;
  #call: UpstreamCall | undefined;
  #mode: Mode = "waiting";
  #decoder: StreamDecoder | undefined;
  #collector: BodyCollector | undefined;
  #status = 0;
  #answerHeaders: UpstreamHeaders = {};
  #rateLimit: RateLimitState | undefined;
  #headersMs = 0;
  #ttftMs = 0;
  #sent = false;
  #over = false;
  /** While set, the sink hears of an end only in a microtask: its owner is in the middle of a call to us. */
  #entered = false;
  /** Bytes the consumer still takes. */
  #window = ATTEMPT_WINDOW_BYTES;
  #paused = false;
  /** Rest of a whole body that did not fit the window, and the end that follows it. */
  #rest: { bytes: Uint8Array; readonly facts: AnswerFacts; readonly garbage: boolean } | undefined;
  #contentSeen = false;
  /** A byte came since the last sweep. */
  #heard = false;
  #heardMs: number;
  /** Of its age, this process stood still, ms: its provider is not to blame for that. */
  #excusedMs = 0;
  #lingerUntilMs = 0;
  #sweepPlace = -1;
  /** Its place among those that run, kept by its owner. */
  place = -1;

  constructor(deps: AttemptDeps, open: AttemptOpen, entry: BackendEntry, sink: AttemptSink) {
    this.#deps = deps;
    this.open = open;
    this.entry = entry;
    this.#sink = sink;
    this.replica = deps.replica;
    this.#startMs = deps.clock.monotonicMs();
    this.#heardMs = this.#startMs;
  }

  /** Encodes and sends. Whatever fails at once reaches the sink in a microtask. */
  begin(): void {
    this.#entered = true;
    this.#sweepPlace = this.#deps.sweeper.add(this);
    try {
      this.#request = this.entry.codec.encode(this.open, this.entry.backend);
      this.#call = this.#deps.transport.start(
        {
          origin: this.entry.origin,
          path: this.entry.basePath + this.#request.path + this.entry.query,
          headers: this.#requestHeaders(this.#request),
          body: this.#request.body,
        },
        this,
      );
    } catch (error) {
      this.#end({ outcome: Outcome.FAILED, error: beginError(error) });
    }
    this.#entered = false;
    if (this.#over) this.#call?.abort();
  }

  #requestHeaders(request: EncodedRequest): string[] {
    const { open } = this;
    const headers = [...this.entry.standingHeaders()];
    headers.push("accept", request.stream ? "text/event-stream" : "application/json", "x-client-request-id", open.attemptId);
    if (open.traceparent !== "") {
      headers.push("traceparent", open.traceparent);
      if (open.tracestate !== "") headers.push("tracestate", open.tracestate);
    }
    for (const name in request.headers) headers.push(name, request.headers[name]!);
    return headers;
  }

  // ---- the consumer's side

  consumed(bytes: number): void {
    this.#window += bytes;
    if (this.#window <= 0) return;
    if (this.#rest !== undefined) this.#pump();
    if (!this.#paused) return;
    this.#paused = false;
    this.#heard = true;
    this.#call?.resume();
  }

  cancel(reason: CancelReason): void {
    if (this.#over) return;
    this.#entered = true;
    this.#end(cancelledEnding(reason));
    this.#call?.abort();
  }

  /** Ends it because this replica goes. */
  abandon(): void {
    this.#fail("UPSTREAM_UNAVAILABLE", "The provider adapter is shutting down.");
  }

  // ---- the upstream's side

  sent(): void {
    this.#sent = true;
  }

  headers(status: number, headers: UpstreamHeaders): void {
    this.#heard = true;
    this.#headersMs = this.#ageMs();
    this.#status = status;
    this.#answerHeaders = headers;
    this.#rateLimit = this.entry.codec.rateLimit(headers, this.#deps.clock.now());
    if (status >= 300) {
      this.#mode = "error";
      this.#collector = new BodyCollector(ERROR_BODY_MAX_BYTES);
      return;
    }
    const encoding = headerOf(headers, "content-encoding");
    if (encoding !== "" && encoding !== "identity") return this.#fail("UPSTREAM_PROTOCOL", "The provider's answer is compressed.");
    const type = headerOf(headers, "content-type");
    if (type.startsWith("text/html")) return this.#fail("UPSTREAM_PROTOCOL", "The provider answered with a web page.");
    if (this.#request?.stream === true && !type.startsWith("application/json")) {
      this.#mode = "stream";
      this.#decoder = this.entry.codec.decodeStream(this.#context(), {
        data: (bytes, content, contentEvents) => this.#deliver(bytes, content, contentEvents),
        end: (end) => this.#streamEnded(end),
      });
      return;
    }
    if (Number(headerOf(headers, "content-length")) > BODY_MAX_BYTES) return this.#failTooLarge();
    this.#mode = "body";
    this.#collector = new BodyCollector(BODY_MAX_BYTES);
  }

  data(chunk: Buffer): void {
    if (this.#over) return;
    if (this.#decoder !== undefined) {
      // A byte now and then that never makes a line is silence too.
      if (chunk.length >= DRIP_BYTES || chunk.includes(LINE_FEED)) this.#heard = true;
      this.#decoder.push(chunk);
      if (this.#window > 0 || this.#paused || this.#over) return;
      this.#paused = true;
      this.#call?.pause();
      return;
    }
    this.#heard = true;
    if (this.#collector === undefined || this.#collector.add(chunk)) return;
    if (this.#mode === "error") this.#failAnswer();
    else this.#failTooLarge();
  }

  ended(): void {
    if (this.#over) this.#unwatch();
    else if (this.#mode === "stream") this.#decoder?.finish();
    else if (this.#mode === "error") this.#failAnswer();
    else this.#readBody();
  }

  failed(failure: UpstreamFailure): void {
    if (this.#over) return this.#unwatch();
    if (this.#mode === "error") return this.#failAnswer();
    const { reason, message, untouched } = failure;
    this.#end({ outcome: Outcome.FAILED, error: attemptError(reason, message, { untouched, httpStatus: this.#status }) });
  }

  // ---- time

  sweep(nowMs: number, lostMs: number): void {
    if (this.#over) {
      if (nowMs < this.#lingerUntilMs) return;
      this.#unwatch();
      this.#call?.abort();
      return;
    }
    if (this.#heard || this.#paused || this.#rest !== undefined) this.#heardMs = nowMs;
    this.#heard = false;
    this.#excusedMs = Math.min(nowMs - this.#startMs, this.#excusedMs + lostMs);
    this.#heardMs = Math.min(nowMs, this.#heardMs + lostMs);
    const timeOut = timeOutOf(
      this.open,
      {
        startMs: this.#startMs,
        excusedMs: this.#excusedMs,
        heardMs: this.#heardMs,
        sent: this.#sent,
        answering: this.#mode !== "waiting",
        first: this.#contentSeen || this.#mode === "error",
      },
      nowMs,
    );
    if (timeOut === undefined) return;
    if (timeOut === "deadline") this.#end(cancelledEnding("deadline"));
    else this.#fail("UPSTREAM_TIMEOUT", TIME_OUT_MESSAGE[timeOut], !this.#sent);
    this.#call?.abort();
  }

  #ageMs(): number {
    return this.#deps.clock.monotonicMs() - this.#startMs;
  }

  // ---- the answer

  #context(): DecodeContext {
    return { open: this.open, backend: this.entry.backend, memo: this.#request?.memo, nowMs: this.#deps.clock.now() };
  }

  #deliver(bytes: Uint8Array, content: boolean, contentEvents: number): void {
    if (this.#over) return;
    if (content && !this.#contentSeen) {
      this.#contentSeen = true;
      this.#ttftMs = this.#ageMs();
    }
    this.#window -= bytes.length;
    this.#sink.data({ $typeName: "signalbox.adapter.v1.AttemptData", data: bytes as Uint8Array<ArrayBuffer>, content, contentEvents });
  }

  #streamEnded(end: StreamEnd): void {
    if (this.#over) return;
    if (end.error !== undefined) {
      this.#end({ outcome: Outcome.FAILED, error: end.error });
      this.#call?.abort();
      return;
    }
    this.#end({ outcome: Outcome.OK, usageEvent: end.usageEvent, garbage: end.garbage });
  }

  #readBody(): void {
    const decoded = this.entry.codec.decodeBody(this.#context(), this.#collector?.bytes() ?? new Uint8Array(0));
    if (decoded.error !== undefined) return this.#end({ outcome: Outcome.FAILED, error: decoded.error }, decoded.facts);
    if (this.#request?.stream === true) return this.#fail("UPSTREAM_PROTOCOL", "The provider did not stream.");
    this.#rest = { bytes: decoded.body, facts: decoded.facts, garbage: decoded.garbage };
    this.#pump();
  }

  /** Hands out a whole body, as much of it as the window takes. */
  #pump(): void {
    while (this.#rest !== undefined && this.#window > 0 && !this.#over) {
      const { bytes, facts, garbage } = this.#rest;
      const piece = bytes.length <= this.#window ? bytes : bytes.subarray(0, this.#window);
      if (piece.length === bytes.length) this.#rest = undefined;
      else this.#rest.bytes = bytes.subarray(piece.length);
      this.#deliver(piece, facts.contentBytes > 0, 0);
      if (this.#rest === undefined) this.#end({ outcome: Outcome.OK, garbage }, facts);
    }
  }

  // ---- the end

  #failAnswer(): void {
    const body = this.#collector?.bytes() ?? new Uint8Array(0);
    const answer = { status: this.#status, headers: this.#answerHeaders, body, nowMs: this.#deps.clock.now() };
    this.#end({ outcome: Outcome.FAILED, error: this.entry.codec.mapError(answer) });
    this.#call?.abort();
  }

  #failTooLarge(): void {
    this.#fail("UPSTREAM_PROTOCOL", "The provider's answer is too large.");
  }

  #fail(reason: AttemptReason, message: string, untouched = false): void {
    this.#end({ outcome: Outcome.FAILED, error: attemptError(reason, message, { untouched, httpStatus: this.#status }) });
    this.#call?.abort();
  }

  #end(ending: Ending, facts = this.#decoder?.facts() ?? this.#rest?.facts ?? NO_ANSWER): void {
    if (this.#over) return;
    this.#over = true;
    this.#rest = undefined;
    const end = attemptEnd(ending, facts, {
      ttftMs: this.#ttftMs,
      durationMs: this.#ageMs(),
      headersMs: this.#headersMs,
      contentSeen: this.#contentSeen,
      dispatched: this.#sent,
      warnings: joined(this.#request?.warnings ?? [], facts.warnings ?? []),
      rateLimit: this.#rateLimit,
    });
    // The id that the decoders give an answer whose provider gave none: it is what the client sees.
    if (end.responseId === "" && ending.outcome === Outcome.OK && this.open.dialect !== Dialect.OPENAI_EMBEDDINGS)
      end.responseId = `chatcmpl-${this.open.attemptId}`;
    if (this.#call?.open === true) this.#lingerUntilMs = this.#deps.clock.monotonicMs() + LINGER_MS;
    else this.#unwatch();
    if (this.#entered) queueMicrotask(() => this.#tell(end));
    else this.#tell(end);
  }

  #unwatch(): void {
    this.#deps.sweeper.remove(this.#sweepPlace);
    this.#sweepPlace = -1;
  }

  #tell(end: AttemptEnd): void {
    this.#deps.ended(this, end);
    this.#sink.end(end);
  }
}

/** Both lists; no new one where there is nothing to add, which is nearly always. */
function joined(first: readonly string[], second: readonly string[]): readonly string[] {
  return second.length === 0 ? first : [...first, ...second];
}
