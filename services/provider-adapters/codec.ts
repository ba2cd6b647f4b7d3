import type { AttemptError, AttemptOpen, Dialect, Usage } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import type { RateLimitState } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { BackendConfig } from "#libs/config/model.ts";

/** Response headers of a provider: names in lower case, a repeated header as a list. */
export type UpstreamHeaders = Readonly<Record<string, string | readonly string[] | undefined>>;

/** The single value of a header, or "" when it is absent. Of a repeated header the first value counts. */
export function headerOf(headers: UpstreamHeaders, name: string): string {
  const value = headers[name];
  if (value === undefined) return "";
  return typeof value === "string" ? value : (value[0] ?? "");
}

/** What goes upstream for one attempt. */
export interface EncodedRequest {
  /** Path and query below the backend's url, with the leading slash: "/chat/completions", "/messages". */
  readonly path: string;
  /**
   * Headers of the dialect, names in lower case ("anthropic-version"). Not among them, because `upstream/` adds them:
   * content-type, content-length, accept, credentials, trace context and what marks us as a proxy.
   */
  readonly headers: Readonly<Record<string, string>>;
  /** JSON. May be a view on `open.body`. */
  readonly body: Uint8Array;
  /** Whether the provider was asked to stream: then its 2xx answer goes to `decodeStream`, else to `decodeBody`. */
  readonly stream: boolean;
  /** Parameters that were clamped or dropped, each "name: what". Empty for most. */
  readonly warnings: readonly string[];
  /** What the decoder must know of the request (sanitised tool names, emulated features); handed back as `DecodeContext.memo`. */
  readonly memo?: unknown;
}

/** What a decoder may look at. */
export interface DecodeContext {
  readonly open: AttemptOpen;
  readonly backend: BackendConfig;
  /** `EncodedRequest.memo` of this attempt. */
  readonly memo: unknown;
  /** Wall clock at the response's headers, ms since the epoch: the only time a decoder knows (for a synthesised `created`). */
  readonly nowMs: number;
}

/** What is known of an answer, at its end or when it is cut short. */
export interface AnswerFacts {
  /** Usage as the provider stated it, in disjoint classes; undefined = not stated (so far). */
  readonly usage: Usage | undefined;
  /** OpenAI finish_reason of the first choice (or an Anthropic one when that is the open's dialect); "" = none (so far). */
  readonly finishReason: string;
  /** Model the provider says it used; "" = not said. */
  readonly upstreamModel: string;
  /** The provider's response id; "" = not said. */
  readonly responseId: string;
  /** Bytes of content (text, reasoning, refusal, tool arguments) delivered: the base of estimates, need not be exact. */
  readonly contentBytes: number;
  /** Events with content delivered: about one token each. For a body: 0. */
  readonly contentEvents: number;
  /** What of the answer has no place in the client's dialect, "name: what"; absent = nothing. */
  readonly warnings?: readonly string[];
}

/** How a decoded stream ended. Exactly one of `ok` and `error`. */
export interface StreamEnd {
  /**
   * Undefined = a complete answer. Otherwise what went wrong, in the words of libs/errors: an error the provider put into the
   * stream (by `mapError`'s rules), UPSTREAM_PROTOCOL for what is malformed or truncated (no finish reason, cut event).
   */
  readonly error: AttemptError | undefined;
  /**
   * Final usage event, ready for the client, `data: {...}\n\n`, never [DONE]: only where `open.includeUsage` is true and usage is
   * known; otherwise undefined. In the OpenAI dialect its `choices` is [], id and created are those of the other chunks.
   */
  readonly usageEvent: Uint8Array | undefined;
  /** True when it ended well without any content and without a reason for that (no refusal, no filter, no length 0). */
  readonly garbage: boolean;
}

/** Where a stream decoder's output goes. Called synchronously from `push` and `finish`. */
export interface StreamOutput {
  /**
   * Whole events, ready for the client in `open.dialect`, each ending in "\n\n"; never [DONE], never the usage event.
   * `bytes` may be a view on the pushed chunk: the receiver may keep it (undici does not reuse its buffers), and must not change it.
   * `content` = holds text, refusal, reasoning or a tool call, not only a role; `contentEvents` = how many of the events do.
   */
  data(bytes: Uint8Array, content: boolean, contentEvents: number): void;
  /** Once at most; no `data` after it. What is pushed after it is ignored. */
  end(end: StreamEnd): void;
}

/** Turns the bytes of one streamed 2xx answer into events for the client. Holds no timer and does no I/O. Never throws. */
export interface StreamDecoder {
  /** The next bytes, cut anywhere. Everything that is complete is put out before it returns. */
  push(chunk: Uint8Array): void;
  /** The upstream's body ended regularly. Calls `output.end` unless that happened already. */
  finish(): void;
  /** What is known now; read at the end, and when an attempt is cut (cancel, time-out, reset). */
  facts(): AnswerFacts;
}

/** A 2xx answer that did not stream. */
export interface DecodedBody {
  /** The body for the client in `open.dialect`. Empty with an error. */
  readonly body: Uint8Array;
  readonly facts: AnswerFacts;
  /** Set when the body is malformed (UPSTREAM_PROTOCOL) or holds an error although the status said 2xx. */
  readonly error: AttemptError | undefined;
  /** True when it ended well without content and without a reason for that. */
  readonly garbage: boolean;
}

/** An answer that is not 2xx. `body` is cut at ERROR_BODY_MAX_BYTES and may be anything: JSON, HTML, nothing. */
export interface FailedAnswer {
  readonly status: number;
  readonly headers: UpstreamHeaders;
  readonly body: Uint8Array;
  /** Wall clock, ms since the epoch, for dates in Retry-After. */
  readonly nowMs: number;
}

/**
 * One provider dialect: pure functions between `open.dialect` and the provider's wire. One codec serves many backends and
 * holds no state. Where both sides speak the same dialect, bytes pass through.
 */
export interface ProviderCodec {
  /** The dialect folder: openai, anthropic. What `provider-adapters:NAME` selects by. */
  readonly name: string;
  /** Whether a request in this dialect can be served. `encode` is never called for another. */
  accepts(dialect: Dialect): boolean;
  /**
   * The request for `backend`. Throws SignalboxError: REQUEST_MALFORMED where the body is not what the dialect says,
   * FEATURE_UNSUPPORTED with `param` where the provider cannot do what changes the answer's meaning. Mere hints are clamped or
   * dropped with a warning. `open.fields` may be empty: then the codec scans. `open.maxOutputTokens` > 0 is a ceiling to send where
   * the caller gave none; `open.resumePrefix` is text the answer must continue.
   */
  encode(open: AttemptOpen, backend: BackendConfig): EncodedRequest;
  /** A decoder for a 2xx answer to a streaming request. */
  decodeStream(context: DecodeContext, output: StreamOutput): StreamDecoder;
  /** Reads a whole 2xx answer (at most BODY_MAX_BYTES). Never throws. */
  decodeBody(context: DecodeContext, body: Uint8Array): DecodedBody;
  /** Puts a failed answer into our words, Retry-After included (see `retryAfterMs` in headers.ts). Never throws. */
  mapError(answer: FailedAnswer): AttemptError;
  /** Rate-limit state from the headers of any answer, or undefined when they state none (see `rateLimitOf` in headers.ts). */
  rateLimit(headers: UpstreamHeaders, nowMs: number): RateLimitState | undefined;
  /** Headers that carry the credential, names in lower case. `key` is "" where the backend has none; then usually {}. */
  authHeaders(backend: BackendConfig, key: string): Readonly<Record<string, string>>;
}

/** A whole JSON answer: 32 MiB holds the longest text and a few base64 images; a hostile one stops there. */
export const BODY_MAX_BYTES = 32 * 1024 * 1024;

/** One SSE line or event: 8 MiB holds an inline image. Beyond it the stream is malformed. */
export const EVENT_MAX_BYTES = 8 * 1024 * 1024;

/** Of an error body only the beginning is read: it is a message, or an HTML page. */
export const ERROR_BODY_MAX_BYTES = 64 * 1024;

/** Fields of `AttemptError` a mapper sets; the rest are their zero values. */
export type ErrorFacts = Partial<Omit<AttemptError, "$typeName" | "$unknown" | "reason" | "message">>;

/** An AttemptError. `reason` is from libs/errors; `message` is cut at 2,000 characters. */
export function attemptError(reason: AttemptReason, message: string, facts: ErrorFacts = {}): AttemptError {
  return {
    $typeName: "signalbox.adapter.v1.AttemptError",
    reason,
    message: message.length > MESSAGE_MAX_CHARACTERS ? `${message.slice(0, MESSAGE_MAX_CHARACTERS)}…` : message,
    httpStatus: facts.httpStatus ?? 0,
    code: facts.code ?? "",
    param: facts.param ?? "",
    retryAfterMs: facts.retryAfterMs ?? 0,
    contextLength: facts.contextLength ?? false,
    busy: facts.busy ?? false,
    type: facts.type ?? "",
    untouched: facts.untouched ?? false,
  };
}

/** A provider's message is for a log line and a person; a page of HTML is neither. */
const MESSAGE_MAX_CHARACTERS = 2_000;

/** Reasons an attempt can fail with. */
export type AttemptReason =
  | "REQUEST_MALFORMED"
  | "FEATURE_UNSUPPORTED"
  | "UPSTREAM_UNAVAILABLE"
  | "UPSTREAM_TIMEOUT"
  | "UPSTREAM_PROTOCOL"
  | "UPSTREAM_UNAUTHORIZED"
  | "UPSTREAM_RATE_LIMITED"
  | "UPSTREAM_REJECTED"
  | "DEADLINE_EXCEEDED"
  | "CANCELED"
  | "SHUTTING_DOWN"
  | "INTERNAL";

/** A Usage, all zero but for `facts`. */
export function usageOf(facts: Partial<Omit<Usage, "$typeName" | "$unknown">> = {}): Usage {
  return {
    $typeName: "signalbox.adapter.v1.Usage",
    inputTokens: facts.inputTokens ?? 0,
    cacheReadTokens: facts.cacheReadTokens ?? 0,
    cacheWriteTokens: facts.cacheWriteTokens ?? 0,
    cacheWrite1hTokens: facts.cacheWrite1hTokens ?? 0,
    outputTokens: facts.outputTokens ?? 0,
    reasoningTokens: facts.reasoningTokens ?? 0,
    audioInputTokens: facts.audioInputTokens ?? 0,
    audioOutputTokens: facts.audioOutputTokens ?? 0,
    imageInputTokens: facts.imageInputTokens ?? 0,
    webSearches: facts.webSearches ?? 0,
    serviceTier: facts.serviceTier ?? "",
    anomaly: facts.anomaly ?? false,
  };
}
