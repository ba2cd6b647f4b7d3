import type { AttemptError } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { attemptError, headerOf, type AttemptReason, type ErrorFacts, type FailedAnswer } from "../codec.ts";
import { retryAfterMs } from "../headers.ts";
import { isObject, objectOf, textOf, type JsonObject } from "./api.ts";

/** HTTP status that the API pairs with each error type, for errors that arrive inside a stream. */
const STATUS_OF_TYPE: Readonly<Record<string, number>> = {
  invalid_request_error: 400,
  authentication_error: 401,
  billing_error: 402,
  permission_error: 403,
  not_found_error: 404,
  conflict_error: 409,
  request_too_large: 413,
  rate_limit_error: 429,
  api_error: 500,
  timeout_error: 504,
  overloaded_error: 529,
};

/** A prompt beyond the context window, in the API's phrasings. */
const CONTEXT_LENGTH =
  /prompt is too long|exceeds? (?:the )?(?:maximum )?context|context (?:window|limit|length)|input length and `?max_tokens`? exceed/i;

/** Money that ran out answers 400: the account's mistake, not the caller's. */
const MONEY = /credit balance is too low|specified API usage limits|spend(?:ing)? limit|billing/i;

/** Error code of a spend limit, which no waiting cures. */
const SPEND_LIMIT = "enforced_spend_limit_reached";

/** A failed answer in our words. Never throws. */
export function mapError(answer: FailedAnswer): AttemptError {
  const text = Buffer.from(answer.body.buffer, answer.body.byteOffset, answer.body.byteLength).toString("utf8");
  const error = parseError(text);
  const wait = retryAfterMs(answer.headers, answer.nowMs);
  const message = textOf(error["message"]) || (isMarkup(text) ? "" : text.trim());
  return classify(answer.status, error, message || `HTTP ${answer.status}`, {
    retryAfterMs: wait,
    isFinal: headerOf(answer.headers, "x-should-retry") === "false",
  });
}

/** The `error` object of an event that arrived inside a stream, or in a body that said 200. */
export function errorOfEvent(value: unknown): AttemptError {
  const error = objectOf(value);
  const status = STATUS_OF_TYPE[textOf(error["type"])] ?? 500;
  return classify(status, error, textOf(error["message"]) || textOf(error["type"]) || "error event without a message", {
    retryAfterMs: 0,
    isFinal: false,
  });
}

interface Waiting {
  /** ms; 0 = not stated. */
  readonly retryAfterMs: number;
  /** The provider says that no retry will help. */
  readonly isFinal: boolean;
}

function classify(status: number, error: JsonObject, message: string, waiting: Waiting): AttemptError {
  const type = textOf(error["type"]);
  const detail = textOf(objectOf(error["details"])["error_code"]);
  const facts: ErrorFacts = {
    httpStatus: status,
    type,
    code: detail || type,
    param: textOf(error["param"]),
    retryAfterMs: waiting.retryAfterMs,
  };
  if (detail === SPEND_LIMIT || (status === 429 && waiting.isFinal && waiting.retryAfterMs === 0)) {
    // Counts as a credential that is no good until somebody acts: other backends are tried, this one is not waited for.
    return attemptError("UPSTREAM_UNAUTHORIZED", message, {
      ...facts,
      code: detail || SPEND_LIMIT,
      type: "insufficient_quota",
      retryAfterMs: 0,
    });
  }
  if (status === 400 && MONEY.test(message))
    return attemptError("UPSTREAM_UNAUTHORIZED", message, { ...facts, type: "insufficient_quota" });
  if ((status === 400 || status === 413) && CONTEXT_LENGTH.test(message)) {
    return attemptError("UPSTREAM_REJECTED", message, { ...facts, code: "context_length_exceeded", contextLength: true });
  }
  return attemptError(reasonOf(status), message, { ...facts, untouched: status === 429 || status === 529 });
}

function reasonOf(status: number): AttemptReason {
  switch (status) {
    case 401:
    case 402:
    case 403:
      return "UPSTREAM_UNAUTHORIZED";
    case 408:
    case 504:
      return "UPSTREAM_TIMEOUT";
    case 400:
    case 413:
    case 422:
      return "UPSTREAM_REJECTED";
    case 429:
      return "UPSTREAM_RATE_LIMITED";
    default:
      return "UPSTREAM_UNAVAILABLE";
  }
}

/** The error object of a body, whatever wraps it; gateways in front answer in other shapes. */
function parseError(text: string): JsonObject {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return {};
  }
  if (!isObject(body)) return {};
  if (isObject(body["error"])) return body["error"];
  const message = textOf(body["error"]) || textOf(body["message"]) || textOf(body["detail"]);
  return message === "" ? {} : { message };
}

function isMarkup(text: string): boolean {
  return /^\s*</.test(text);
}
