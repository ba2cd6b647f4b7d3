import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { RecordKind, type AttemptRecord, type Entry } from "#gen/signalbox/ledger/v1/ledger_pb.ts";

/** One exported entry. Amounts are integers as text, in nano-USD; a reversing entry has negative tokens and amount, so that sums are right. */
export interface EntryJson {
  readonly attempt_id: string;
  readonly request_id: string;
  readonly attempt: number;
  readonly tenant: string;
  readonly team: string;
  readonly key_id: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly model: string;
  readonly backend: string;
  readonly provider: string;
  readonly upstream_model: string;
  /** Uncached prompt tokens, those of audio and images included. */
  readonly input_tokens: number;
  readonly cache_read_tokens: number;
  readonly cache_write_tokens: number;
  readonly output_tokens: number;
  readonly reasoning_tokens: number;
  readonly cost_nano_usd: string;
  readonly outcome: OutcomeWord;
  readonly estimated: boolean;
  /** RFC 3339 in UTC with microseconds. */
  readonly started_at: string;
  readonly duration_ms: number;
  readonly ttft_ms: number;
  readonly experiment: string;
  readonly arm: string;
  readonly sequence: string;
  readonly unpriced: boolean;
  readonly price_version: string;
  readonly purpose: string;
  /** What was set aside before the attempt left; an estimate without stated usage stays within it. 0 = unknown. */
  readonly reserved_nano_usd: string;
  /** Attempt whose entry this one takes back; empty = none. */
  readonly reverses: string;
}

/** How an attempt ended, in the product's words. */
export type OutcomeWord = "ok" | "failed" | "canceled" | "hedge_lost" | "deadline" | "expired" | "void";

const OUTCOME_WORDS: Readonly<Record<Outcome, OutcomeWord>> = {
  [Outcome.UNSPECIFIED]: "expired",
  [Outcome.OK]: "ok",
  [Outcome.FAILED]: "failed",
  [Outcome.CANCELED]: "canceled",
  [Outcome.HEDGE_LOST]: "hedge_lost",
  [Outcome.DEADLINE]: "deadline",
  [Outcome.VOID]: "void",
};

/** The word for how the attempt of a record ended; an expired one says so whatever it carries. */
export function outcomeWord(record: AttemptRecord): OutcomeWord {
  return record.kind === RecordKind.EXPIRE ? "expired" : (OUTCOME_WORDS[record.outcome] ?? "failed");
}

/** The export object of an entry (product words, stable). */
export function entryJson(entry: Entry): EntryJson {
  const record = entry.record!;
  const usage = record.usage;
  const sign = entry.reverses === "" ? 1 : -1;
  const signed = (count: number): number => (count === 0 ? 0 : sign * count);
  return {
    attempt_id: record.attemptId,
    request_id: record.requestId,
    attempt: record.attempt,
    tenant: record.tenant,
    team: record.team,
    key_id: record.keyId,
    tags: record.tags,
    model: record.model,
    backend: record.backend,
    provider: record.provider,
    upstream_model: record.upstreamModel,
    input_tokens: signed((usage?.inputTokens ?? 0) + (usage?.audioInputTokens ?? 0) + (usage?.imageInputTokens ?? 0)),
    cache_read_tokens: signed(usage?.cacheReadTokens ?? 0),
    cache_write_tokens: signed((usage?.cacheWriteTokens ?? 0) + (usage?.cacheWrite1hTokens ?? 0)),
    output_tokens: signed((usage?.outputTokens ?? 0) + (usage?.audioOutputTokens ?? 0)),
    reasoning_tokens: signed(usage?.reasoningTokens ?? 0),
    cost_nano_usd: record.costNanoUsd.toString(),
    outcome: outcomeWord(record),
    estimated: record.estimated,
    started_at: rfc3339(record.startedAtUs),
    duration_ms: record.durationMs,
    ttft_ms: record.ttftMs,
    experiment: record.experiment,
    arm: record.arm,
    sequence: entry.sequence.toString(),
    unpriced: record.unpriced,
    price_version: record.priceVersion,
    purpose: record.purpose,
    reserved_nano_usd: record.reservedNanoUsd.toString(),
    reverses: entry.reverses,
  };
}

/** Microseconds since the epoch as `2026-11-01T12:00:00.123456Z`. */
export function rfc3339(atUs: bigint): string {
  const ms = Number(atUs / 1000n);
  const us = (atUs % 1000n).toString().padStart(3, "0");
  return new Date(ms).toISOString().replace("Z", `${us}Z`);
}
