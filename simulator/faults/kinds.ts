/** Faults answered instead of the model, as an error of the provider. `error` is `500`. */
export const STATUS_KINDS = [
  "error",
  "400",
  "401",
  "402",
  "403",
  "404",
  "408",
  "409",
  "413",
  "422",
  "429-rate",
  "429-quota",
  "429-slow",
  "500",
  "502-html",
  "503",
  "504",
  "529",
  "context_length",
  "content_policy",
] as const;
export type StatusKind = (typeof STATUS_KINDS)[number];

/** Faults of the connection, before any answer. */
const CONNECTION_KINDS = ["refuse", "reset", "blackhole", "keepalive_jitter", "garbage", "loading"] as const;

/** Faults that end or disturb an answer after `afterTokens` tokens. */
export const CUT_KINDS = [
  "stall",
  "cut",
  "cut_before_first",
  "rst_after",
  "error_event",
  "malformed",
  "giant_line",
  "endless_line",
] as const;
export type CutKind = (typeof CUT_KINDS)[number];

/** Faults that answer 200 with something that is no answer. */
export const HOLLOW_KINDS = ["ok_with_error_body", "empty"] as const;
export type HollowKind = (typeof HOLLOW_KINDS)[number];

/** Faults that leave the answer whole and its bytes or its frame odd. */
const SHAPE_KINDS = [
  "slow",
  "drip",
  "split",
  "crlf",
  "comments",
  "bom",
  "dup_chunk",
  "dup_finish",
  "no_finish",
  "no_done",
  "empty_choices_first",
  "usage_absent",
  "usage_early",
  "usage_twice",
  "usage_inconsistent",
  "usage_huge",
  "wrong_content_type",
  "gzip",
  "many_headers",
] as const;

/** Every kind of fault. */
export const FAULT_KINDS = [...STATUS_KINDS, ...CONNECTION_KINDS, ...CUT_KINDS, ...HOLLOW_KINDS, ...SHAPE_KINDS] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

const ALIASES: Readonly<Record<string, FaultKind>> = {
  "429": "429-rate",
  "502": "502-html",
  hang: "blackhole",
  rst: "rst_after",
  overloaded: "529",
};

/** The kind a word names, aliases (`429`, `502`, `hang`, `rst`, `overloaded`) included; undefined when there is none. */
export function faultKindOf(word: string): FaultKind | undefined {
  return ALIASES[word] ?? FAULT_KINDS.find((kind) => kind === word);
}

/** How a `retry-after` is given. */
export type RetryAfterForm = "seconds" | "date" | "ms" | "absent";

/** What a fault may be told. Everything has a default. */
export interface FaultOptions {
  /** Probability per request, 0..1. Default 1. */
  readonly p?: number;
  /** Ends after this many ms. Default: until cleared. */
  readonly forMs?: number;
  /** Ends after this many requests were struck. */
  readonly count?: number;
  /** Tokens written before a cut. Default 3 (`cut_before_first`: 0). For `stall`, -1 = not even headers. */
  readonly afterTokens?: number;
  /** A cut of a stream strikes when this is resolved, and not before `afterTokens`: what is written before it can be read first. In one process only. */
  readonly until?: Promise<void>;
  /** Multiplies times, for `slow`. Default 10. */
  readonly factor?: number;
  /** Flapping: the fault acts for `downMs`, rests for `upMs`, and so on. */
  readonly upMs?: number;
  readonly downMs?: number;
  /** Bytes of `giant_line`, headers of `many_headers`. Defaults 10 MiB, 1000. */
  readonly bytes?: number;
  /** Ms between bytes of `drip` (default 100), longest idle time of `keepalive_jitter` (default 5000). */
  readonly delayMs?: number;
  /** How a 429, 503 or 529 says when to come back. Default seconds (quota: absent). */
  readonly retryAfter?: RetryAfterForm;
  /** Seconds it says. Default 1. */
  readonly retryAfterS?: number;
  /** Whether health, models and metrics routes are struck by status faults too. Default false. */
  readonly everywhere?: boolean;
}
