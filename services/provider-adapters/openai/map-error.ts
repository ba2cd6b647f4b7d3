import type { AttemptError } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { attemptError, type AttemptReason, type ErrorFacts, type FailedAnswer } from "../codec.ts";
import { retryAfterMs, retryInfoMs } from "../headers.ts";
import { isObject, type Loose } from "./usage.ts";

/** What an error body says, whatever its shape (wire notes 2.4). */
interface ErrorBody {
  readonly message: string;
  readonly type: string;
  readonly code: string;
  readonly param: string;
  /** Status in the body (numeric code, status_code); 0 = none. */
  readonly status: number;
  readonly retryMs: number;
  /** Words of the body that classify: type, code, status, reasons of the details. */
  readonly words: string;
}

/** An error answer in our words (house rules, section 5). */
export function mapError(answer: FailedAnswer): AttemptError {
  const body = readErrorBody(parse(answer.body));
  const waitMs = retryAfterMs(answer.headers, answer.nowMs);
  return classify(answer.status, answer.status, body, waitMs > 0 ? waitMs : body.retryMs);
}

/** An error object found inside a 2xx answer: an event of a stream, or a body. `value` is the whole parsed JSON. */
export function mapErrorInside(value: unknown): AttemptError {
  const body = readErrorBody(value);
  return classify(body.status > 0 ? body.status : statusOfWords(body), 200, body, body.retryMs);
}

function parse(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString("utf8"));
  } catch {
    return undefined;
  }
}

function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  return typeof value === "number" ? String(value) : "";
}

/** Nested or flat, error or detail a string, details a list of validation faults, a list of one. */
function readErrorBody(parsed: unknown): ErrorBody {
  const root = Array.isArray(parsed) ? (parsed as readonly unknown[])[0] : parsed;
  if (!isObject(root)) return { message: "", type: "", code: "", param: "", status: 0, retryMs: 0, words: "" };
  const error = isObject(root["error"]) ? root["error"] : root;
  const code = textOf(error["code"]) || textOf(root["code"]);
  const type = textOf(error["type"]) || textOf(error["status"]) || textOf(root["error_type"]);
  const status = Number(error["status_code"] ?? error["code"] ?? Number.NaN);
  return {
    message: textOf(error["message"]) || textOf(root["error"]) || textOf(root["message"]) || detailText(root["detail"]),
    type,
    code,
    param: textOf(error["param"]),
    status: status >= 400 && status < 600 ? status : 0,
    retryMs: retryInfoMs(error["details"]),
    words: `${type} ${code} ${textOf(root["error_type"])} ${detailWords(error["details"])}`.toLowerCase(),
  };
}

/** FastAPI's `detail`: a text, or a list of {loc, msg}. */
function detailText(detail: unknown): string {
  if (!Array.isArray(detail)) return isObject(detail) ? textOf(detail["message"]) : textOf(detail);
  return (detail as readonly unknown[])
    .filter((fault) => isObject(fault))
    .map((fault) => `${Array.isArray(fault["loc"]) ? fault["loc"].join(".") : ""}: ${textOf(fault["msg"])}`)
    .join("; ");
}

function detailWords(details: unknown): string {
  if (Array.isArray(details))
    return (details as readonly unknown[]).map((item) => (isObject(item) ? textOf(item["reason"]) : "")).join(" ");
  return isObject(details) ? textOf(details["error_code"]) : "";
}

/** Status an error without one stands for, by its words; what says nothing is the provider's fault. */
function statusOfWords(body: ErrorBody): number {
  if (QUOTA.test(body.words) || /rate_limit|slow_down|too_many_requests|resource_exhausted/.test(body.words)) return 429;
  if (/authentication|invalid_api_key|permission/.test(body.words)) return 401;
  if (/invalid_request|invalid_argument|context_length|content_policy|content_filter/.test(body.words)) return 400;
  return 502;
}

/** Money or a spending limit is gone: waiting does not help. */
const QUOTA =
  /insufficient_quota|credit_balance_exhausted|spend_limit_(exceeded|reached)|usage_limit_exceeded|billing|insufficient_balance|payment_required/;

/** A bad key that some providers report as 400. */
const BAD_KEY = /incorrect api key|invalid api key|api key not valid|api_key_invalid|invalid x-api-key/i;

const CONTEXT_WORDS = /context_length|exceed_context_size|too_many_tokens|context_window/;
const CONTEXT_TEXT =
  /maximum context length|context window|context size|context length|prompt is too long|too many tokens|input is too long|longer than the (model|maximum)/i;

const MODEL_WORDS = /model_not_found|invalid_model|unknown_model|model_not_available/;
const MODEL_TEXT =
  /\bmodel\b.{0,200}(not found|does not exist|not exist|is invalid|not available)|model identifier is invalid|invalid model/is;

/** The model wrote a tool call or JSON that the provider could not read: not the caller's fault, and another backend may do better. */
const MODEL_FAULT = /tool_use_failed|json_validate_failed|output_parse_failed/;

function classify(status: number, httpStatus: number, body: ErrorBody, waitMs: number): AttemptError {
  const facts: ErrorFacts = { httpStatus, code: body.code, param: body.param, type: body.type, retryAfterMs: waitMs };
  const message = body.message || `The provider answered ${status}.`;
  const say = (reason: AttemptReason, more: ErrorFacts = {}): AttemptError => attemptError(reason, message, { ...facts, ...more });
  if (status === 401 || status === 402 || status === 403) {
    return status === 403 && MODERATION.test(message) ? say("UPSTREAM_REJECTED") : say("UPSTREAM_UNAUTHORIZED");
  }
  if (status === 429) return QUOTA.test(body.words) ? say("UPSTREAM_UNAUTHORIZED", { retryAfterMs: 0 }) : say("UPSTREAM_RATE_LIMITED");
  if (status === 413 && /rate_limit/.test(body.words)) return say("UPSTREAM_RATE_LIMITED");
  if (status === 404) return isMissingModel(body) ? say("UPSTREAM_UNAVAILABLE") : say("UPSTREAM_REJECTED");
  if (status === 400 || status === 409 || status === 413 || status === 422) return rejected(body, message, say);
  return say("UPSTREAM_UNAVAILABLE");
}

/** OpenRouter answers 403 where the input was flagged: the caller's text, not our key. */
const MODERATION = /flagged|moderation/i;

/** A 404 without a word, or about the model: the configuration names what the provider does not have. */
function isMissingModel(body: ErrorBody): boolean {
  return body.message === "" || MODEL_WORDS.test(body.words) || MODEL_TEXT.test(body.message) || /not_?found/.test(body.words);
}

function rejected(body: ErrorBody, message: string, say: (reason: AttemptReason, more?: ErrorFacts) => AttemptError): AttemptError {
  if (MODEL_FAULT.test(body.words)) return say("UPSTREAM_PROTOCOL");
  if (BAD_KEY.test(message) || BAD_KEY.test(body.words)) return say("UPSTREAM_UNAUTHORIZED");
  if (QUOTA.test(body.words)) return say("UPSTREAM_UNAUTHORIZED");
  if (MODEL_WORDS.test(body.words) || /^invalid model\b|model identifier is invalid/i.test(message)) return say("UPSTREAM_UNAVAILABLE");
  const contextLength = CONTEXT_WORDS.test(body.words) || CONTEXT_TEXT.test(message);
  return say("UPSTREAM_REJECTED", { contextLength });
}

/** Whether parsed JSON is an error object rather than an answer. `error: null` is none. */
export function isErrorObject(value: Loose): boolean {
  if (value["error"] !== undefined && value["error"] !== null && value["error"] !== "" && value["error"] !== false) return true;
  return value["object"] === "error" || value["type"] === "error";
}
