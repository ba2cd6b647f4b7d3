import { quantile, type Estimate } from "./estimator.ts";

/** A backend this many times slower than its pool (and than itself before) is degraded, after some time ... */
const SLOW_RATIO = 3;
const SLOW_FOR_MS = 15_000;
/** ... and ejected beyond this, at once. */
const TOO_SLOW_RATIO = 8;
/** Times below these are all the same: between backends that answer at once, ratios say nothing. */
const NOTICEABLE_TTFT_MS = 50;
const NOTICEABLE_TPOT_MS = 5;
/** Stalls in a minute that eject. */
const STALLS_MAX = 3;
/** Share of empty answers that ejects. */
const GARBAGE_MAX = 0.2;

/** What statistics say of one backend. */
export type Finding =
  | { readonly kind: "fine" }
  | { readonly kind: "degrade"; readonly reason: string }
  | { readonly kind: "eject"; readonly reason: string };

const FINE: Finding = { kind: "fine" };

/**
 * Pace against the median of the pool's other backends; the slower of first token and token rate counts. 0 = unknown: too few
 * samples here or there.
 */
export function slowRatio(own: Estimate, others: readonly Estimate[]): number {
  const ratioTo = (mine: number | undefined, theirs: readonly (number | undefined)[], leastMs: number): number => {
    const known = theirs.filter((value) => value !== undefined).sort((a, b) => a - b);
    return mine === undefined || known.length === 0 ? 0 : Math.max(leastMs, mine) / Math.max(leastMs, quantile(known, 0.5));
  };
  return Math.max(
    ratioTo(
      own.recentTtftMs,
      others.map((other) => other.recentTtftMs),
      NOTICEABLE_TTFT_MS,
    ),
    ratioTo(
      own.recentTpotMs,
      others.map((other) => other.recentTpotMs),
      NOTICEABLE_TPOT_MS,
    ),
  );
}

/**
 * Judges one backend. It counts as slow only when it is slow against its pool and against its own past: a cloud may be three
 * times slower than a local GPU by nature, and a load peak slows the whole pool. `slowSinceMs` is when slowness began.
 */
export function judge(own: Estimate, poolRatio: number, slowSinceMs: number | undefined, nowMs: number): Finding {
  if (own.stalls >= STALLS_MAX) return { kind: "eject", reason: `${own.stalls} streams stalled within a minute` };
  if (own.garbageShare > GARBAGE_MAX) return { kind: "eject", reason: `${Math.round(own.garbageShare * 100)} % of answers were empty` };
  const slow = effectiveRatio(own, poolRatio);
  if (slow > TOO_SLOW_RATIO) return { kind: "eject", reason: `${slow.toFixed(1)} times slower than its pool` };
  if (slow > SLOW_RATIO && slowSinceMs !== undefined && nowMs - slowSinceMs >= SLOW_FOR_MS) {
    return { kind: "degrade", reason: `${slow.toFixed(1)} times slower than its pool` };
  }
  return FINE;
}

/** Whether the slow clock runs. */
export function isSlow(own: Estimate, poolRatio: number): boolean {
  return effectiveRatio(own, poolRatio) > SLOW_RATIO;
}

function effectiveRatio(own: Estimate, poolRatio: number): number {
  return Math.min(poolRatio, own.selfRatio);
}
