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
 * How slow a backend counts as: it must be slow against its pool and against its own past, as a cloud may be three times slower than a
 * local GPU by nature, and a load peak slows the whole pool; and by itself, not for what it is sent: `ownSlowdown` is what is left of
 * its slowness without its load, Infinity = not known. 0 = not slow.
 */
export function slownessOf(own: Estimate, poolRatio: number, ownSlowdown: number): number {
  return ownSlowdown <= SLOW_RATIO ? 0 : Math.min(poolRatio, own.selfRatio);
}

/** Judges one backend. `slowness` as of `slownessOf`; `slowSinceMs` is when it began. */
export function judge(own: Estimate, slowness: number, slowSinceMs: number | undefined, nowMs: number): Finding {
  if (own.stalls >= STALLS_MAX) return { kind: "eject", reason: `${own.stalls} streams stalled within a minute` };
  if (own.garbageShare > GARBAGE_MAX) return { kind: "eject", reason: `${Math.round(own.garbageShare * 100)} % of answers were empty` };
  if (slowness > TOO_SLOW_RATIO) return { kind: "eject", reason: `${slowness.toFixed(1)} times slower than its pool` };
  if (isSlow(slowness) && slowSinceMs !== undefined && nowMs - slowSinceMs >= SLOW_FOR_MS) {
    return { kind: "degrade", reason: `${slowness.toFixed(1)} times slower than its pool` };
  }
  return FINE;
}

/** Whether the slow clock runs. */
export function isSlow(slowness: number): boolean {
  return slowness > SLOW_RATIO;
}
