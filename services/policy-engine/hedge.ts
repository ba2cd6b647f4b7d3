import type { AnswerContext } from "./answer.ts";
import { inputBucket } from "./input-buckets.ts";
import { STANDING } from "./pick.ts";

/** A hedge starts no earlier than this, ms. */
const DELAY_MIN_MS = 50;

/** Nor before this many predictions have passed. */
const DELAY_FACTOR = 1.5;

/** Uncached prompt tokens beyond which a second prefill costs more than it saves. */
const UNCACHED_MAX = 4_000;

/** How full the pool may be on average: a full one has no room for doubles. */
const LOAD_MAX = 0.7;

/** Observations of a backend's first tokens before its 95th percentile means anything. */
const OBSERVATIONS_MIN = 20;

/**
 * After how many ms without content the first candidate is to be doubled by the second (routing, section 1.11); 0 = not at all:
 * only for a person's stream, a small prompt, a pool with room, a cheap double in another failure domain that meets the targets.
 */
export function hedgeAfterMs(context: AnswerContext): number {
  const { judge, judgement, resolved, snapshot, state } = context;
  const { hedge } = snapshot.config.resilience;
  if (resolved.class !== "interactive" || !resolved.request.stream || hedge.after === "off" || judgement.ordered < 2) return 0;
  const first = judge.table.order[0]!;
  const second = judge.table.order[1]!;
  if (judge.table.feasible[second] === 0 || judge.table.standing[second]! > STANDING.fresh) return 0;
  if (judge.predictions[second]!.uncachedTokens > UNCACHED_MAX || judge.averageNano[second]! > Number(hedge.maxCostNanoUsd)) return 0;
  const { candidates } = resolved.model;
  if (snapshot.backends[candidates[first]!]!.origin === snapshot.backends[candidates[second]!]!.origin) return 0;
  if (meanLoad(context) > LOAD_MAX) return 0;
  const seen = state.backends[candidates[first]!]!.ttft[inputBucket(resolved.inputTokens)]!;
  if (seen.effectiveCount(context.nowMs) < OBSERVATIONS_MIN) return 0;
  const late = hedge.after === "p99" ? seen.quantile(0.99) : seen.p95;
  return Math.max(DELAY_MIN_MS, late, DELAY_FACTOR * judge.predictions[first]!.ttftMs);
}

function meanLoad(context: AnswerContext): number {
  const { judge, judgement, resolved, state } = context;
  let sum = 0;
  for (let place = 0; place < judgement.ordered; place++) {
    const backend = state.backends[resolved.model.candidates[judge.table.order[place]!]!]!;
    sum += backend.load / Math.max(1, backend.limitValue);
  }
  return sum / Math.max(1, judgement.ordered);
}
