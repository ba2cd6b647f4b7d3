import type { IncomingHttpHeaders } from "node:http";
import type { Limited } from "./engine/buckets.ts";
import type { Call } from "./engine/call.ts";
import type { Generation } from "./engine/generate.ts";
import type { AnswerFrame, StreamRenderer } from "./engine/render.ts";
import type { FaultOptions, StatusKind } from "./faults/kinds.ts";
import type { JsonObject } from "./http/json.ts";
import type { Reply } from "./http/reply.ts";

/** A request to compute an answer for. */
export interface Asked {
  readonly kind: "generate";
  readonly call: Call;
  /** Id of the answer. */
  readonly id: string;
  drawToolId(): string;
  stream(generation: Generation, frame: AnswerFrame): StreamRenderer;
  json(generation: Generation, frame: AnswerFrame): string;
}

/** A request answered at once: an error, or something that needs no engine. */
export interface Answered {
  readonly kind: "reply";
  readonly reply: Reply;
  /** Set when the provider bills it. */
  readonly billed?: { readonly model: string; readonly promptTokens: number };
}

/** One provider's wire format. */
export interface DialectService {
  /** Whether a POST to this path is inference. */
  readonly paths: readonly string[];
  /** The provider's refusal of the caller's key; undefined = let in. */
  authenticate(headers: IncomingHttpHeaders, requestId: string): Reply | undefined;
  /** Reads an inference request. `body` is undefined when it was no JSON object. */
  ask(path: string, headers: IncomingHttpHeaders, body: JsonObject | undefined, requestId: string): Asked | Answered;
  fault(kind: StatusKind, options: FaultOptions, model: string, requestId: string): Reply;
  limited(limited: Limited, model: string, requestId: string): Reply;
  /** No such path or method, engine too full, body too large: `status` says which. */
  plainError(status: 404 | 405 | 413 | 503, detail: string, requestId: string): Reply;
  /** Headers of every answer, ids and rate limits. */
  headers(requestId: string, incoming: IncomingHttpHeaders): string[];
}
