import { type DecideRequest, Operation } from "#gen/signalbox/policy/v1/policy_pb.ts";

/** What adapters put into one call for embeddings at the least: inputs, and tokens (provider-adapters, micro-batch). */
const BATCH_ITEMS = 32;
const BATCH_TOKENS = 16_000;

/** Calls' worth of requests let in per call: one that runs, and one that gathers meanwhile, or the next call would go half empty. */
const CALLS_AHEAD = 2;

/** Shares are counted in parts of this size: sums of them stay exact in floating point. */
const PARTS = 256;

/**
 * Share of an upstream call that a request takes up. Concurrency limits are about calls: an answer is one, while embeddings of many
 * callers share one, up to 32 requests or 16,000 tokens in each, while as many gather for the next.
 */
export function callShare(request: Pick<DecideRequest, "operation" | "inputTokens">): number {
  if (request.operation !== Operation.EMBEDDINGS) return 1;
  return Math.min(PARTS, Math.ceil((PARTS * Math.max(1 / BATCH_ITEMS, request.inputTokens / BATCH_TOKENS)) / CALLS_AHEAD)) / PARTS;
}
