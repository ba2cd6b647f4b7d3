/** Buckets of an experiment: shares have two digits after the point of a per cent. */
export const BUCKETS = 10_000;

const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

/** FNV-1a over UTF-16 code units, 32 bits, unsigned. */
export function fnv1a32(text: string): number {
  let hash = FNV_OFFSET;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), FNV_PRIME);
  return hash >>> 0;
}

/** The bucket of a unit, 0..9,999: the same on every replica and for ever. The second round spreads what FNV leaves close (GrowthBook's hash version 2). */
export function bucketOf(seed: string, unit: string): number {
  return fnv1a32(String(fnv1a32(seed + unit))) % BUCKETS;
}

/** Buckets `from` (inclusive) to `to` (exclusive). */
export type BucketRange = readonly [from: number, to: number];

/** An arm's buckets, in ascending order and apart from each other. */
export interface ArmRanges {
  readonly name: string;
  readonly ranges: readonly BucketRange[];
}

/** The arm a bucket belongs to, or -1. */
export function armAt(arms: readonly ArmRanges[], bucket: number): number {
  for (let index = 0; index < arms.length; index++) {
    for (const [from, to] of arms[index]!.ranges) if (bucket >= from && bucket < to) return index;
  }
  return -1;
}

/**
 * Ranges for new weights (shares, 0..1, that sum to at most 1). Arms that shrink give up their last buckets; those that grow take
 * what is free in order. So no unit moves that need not: an arm keeps all it had, or loses exactly its decrease. Start with `[]`.
 */
export function extendRanges(
  before: readonly ArmRanges[],
  weights: readonly { readonly name: string; readonly weight: number }[],
): ArmRanges[] {
  const sizes = sizesOf(weights.map(({ weight }) => weight));
  const kept = weights.map(({ name }, index) => keepFirst(before.find((arm) => arm.name === name)?.ranges ?? [], sizes[index]!));
  const free = gapsOf(kept.flat());
  return weights.map(({ name }, index) => {
    const missing = sizes[index]! - lengthOf(kept[index]!);
    return { name, ranges: merge([...kept[index]!, ...take(free, missing)]) };
  });
}

/** Whole buckets by largest remainder, so that shares that sum to 1 fill all. */
function sizesOf(weights: readonly number[]): number[] {
  const exact = weights.map((weight) => weight * BUCKETS);
  const sizes = exact.map((size) => Math.floor(size + 1e-6));
  const total = Math.min(BUCKETS, Math.round(exact.reduce((sum, size) => sum + size, 0)));
  let left = total - sizes.reduce((sum, size) => sum + size, 0);
  const byRemainder = exact.map((size, index) => ({ index, rest: size - sizes[index]! })).toSorted((a, b) => b.rest - a.rest);
  for (const { index } of byRemainder) {
    if (left <= 0) break;
    sizes[index]! += 1;
    left--;
  }
  return sizes;
}

function lengthOf(ranges: readonly BucketRange[]): number {
  return ranges.reduce((sum, [from, to]) => sum + to - from, 0);
}

function keepFirst(ranges: readonly BucketRange[], size: number): BucketRange[] {
  const kept: BucketRange[] = [];
  let left = size;
  for (const [from, to] of ranges) {
    if (left <= 0) break;
    const length = Math.min(left, to - from);
    kept.push([from, from + length]);
    left -= length;
  }
  return kept;
}

function gapsOf(taken: readonly BucketRange[]): BucketRange[] {
  const gaps: BucketRange[] = [];
  let at = 0;
  for (const [from, to] of taken.toSorted((a, b) => a[0] - b[0])) {
    if (from > at) gaps.push([at, from]);
    at = Math.max(at, to);
  }
  if (at < BUCKETS) gaps.push([at, BUCKETS]);
  return gaps;
}

/** Removes the first `size` buckets of `free` and gives them back. */
function take(free: BucketRange[], size: number): BucketRange[] {
  const taken: BucketRange[] = [];
  let left = size;
  while (left > 0 && free.length > 0) {
    const [from, to] = free[0]!;
    const length = Math.min(left, to - from);
    taken.push([from, from + length]);
    if (length === to - from) free.shift();
    else free[0] = [from + length, to];
    left -= length;
  }
  return taken;
}

function merge(ranges: readonly BucketRange[]): BucketRange[] {
  const merged: BucketRange[] = [];
  for (const [from, to] of ranges.toSorted((a, b) => a[0] - b[0])) {
    const last = merged.at(-1);
    if (last !== undefined && last[1] === from) merged[merged.length - 1] = [last[0], to];
    else merged.push([from, to]);
  }
  return merged;
}
