import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { RecordKind, type AttemptRecord } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { baselineCost, costOf, type PriceIndex } from "#libs/money/index.ts";
import type { PricedRecord } from "./plan.ts";

/** A record with the ledger's own sum. */
export interface CheckedRecord extends PricedRecord {
  /** Ledger's amount minus the record's; 0 when they agree or when the version is unknown here. */
  readonly differenceNanoUsd: bigint;
}

/**
 * Computes a real outcome's cost again, under the price version the attempt was admitted with; the ledger's sum is the one
 * that is booked. An attempt admitted before its ingress had prices is priced here. An estimate, or a version this ledger does
 * not know, is booked as stated.
 */
export function priceRecord(record: AttemptRecord, index: PriceIndex | undefined): CheckedRecord {
  const { usage } = record;
  const baselineNanoUsd = usage && index && record.outcome === Outcome.OK ? baselineCost(index, usage, startedAtMs(record)) : 0n;
  if (index === undefined || usage === undefined || record.kind !== RecordKind.POST || !isOwnVersion(index, record)) {
    return { record, baselineNanoUsd, differenceNanoUsd: 0n };
  }
  const cost = costOf(index, record.backend, usage, startedAtMs(record), record.gpuSeconds);
  const perRequestOnly = isUnused(usage) && record.costNanoUsd === 0n;
  if (perRequestOnly || (cost.nanoUsd === record.costNanoUsd && cost.unpriced === record.unpriced)) {
    return { record, baselineNanoUsd, differenceNanoUsd: 0n };
  }
  return {
    record: { ...record, costNanoUsd: cost.nanoUsd, unpriced: cost.unpriced, priceGrade: cost.grade, priceVersion: index.version },
    baselineNanoUsd,
    differenceNanoUsd: cost.nanoUsd - record.costNanoUsd,
  };
}

/** Whether the book is the one the attempt was admitted under; one without prices at all takes any. */
function isOwnVersion(index: PriceIndex, record: AttemptRecord): boolean {
  return record.priceVersion === index.version || record.priceVersion === "";
}

function startedAtMs(record: AttemptRecord): number {
  return Number(record.startedAtUs / 1000n);
}

/** An attempt that used nothing owes nothing, a price per request included. */
function isUnused(usage: NonNullable<AttemptRecord["usage"]>): boolean {
  return (
    usage.inputTokens + usage.cacheReadTokens + usage.cacheWriteTokens + usage.cacheWrite1hTokens + usage.outputTokens === 0 &&
    usage.audioInputTokens + usage.audioOutputTokens + usage.imageInputTokens + usage.webSearches === 0
  );
}
