import { REASONS, type Reason, type ReasonRow } from "./reasons.ts";

/** What an error may add to its reason's row. */
export interface ErrorDetail {
  /** Parameter at fault. */
  readonly param?: string;
  /** Finer code than the row's. */
  readonly code?: string;
  /** When a retry makes sense, ms. */
  readonly retryAfterMs?: number;
  /** HTTP status, where the caller's dialect needs a finer one than the row's. */
  readonly httpStatus?: number;
  /** Error type, where a provider's own type is passed on. */
  readonly type?: string;
  readonly cause?: unknown;
}

/** The world failing, with a reason from the closed table. The message is for the caller when the mistake is the caller's. */
export class SignalboxError extends Error {
  readonly reason: Reason;
  readonly param: string | undefined;
  readonly retryAfterMs: number | undefined;
  readonly #detail: ErrorDetail;

  constructor(reason: Reason, message: string, detail: ErrorDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.name = "SignalboxError";
    this.reason = reason;
    this.param = detail.param;
    this.retryAfterMs = detail.retryAfterMs;
    this.#detail = detail;
  }

  /** The row of the table. */
  get row(): ReasonRow {
    return REASONS[this.reason];
  }

  /** OpenAI error code: the finer one where given. */
  get code(): string {
    return this.#detail.code ?? this.row.code;
  }

  /** OpenAI error type. */
  get type(): string {
    return this.#detail.type ?? this.row.type;
  }

  /** HTTP status: the finer one where given. */
  get httpStatus(): number {
    return this.#detail.httpStatus ?? this.row.http;
  }
}
