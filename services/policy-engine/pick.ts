/**
 * How a candidate stands when it is judged: free; fresh = free, but too little is known of it; uncertain = fresh with its quota in
 * flight; busy = at its limit; trial = half open, and this request is its trial; out = ruled out.
 */
export const STANDING = { free: 0, fresh: 1, uncertain: 2, busy: 3, trial: 4, out: 5 } as const;

/** Words of STANDING, by its values. */
export const STANDING_WORDS = ["free", "fresh", "uncertain", "busy", "trial", "out"] as const;

/** Money within this of the cheapest feasible candidate is as good: the band, as a factor and nano-USD. */
const BAND_FACTOR = 1.1;
const BAND_NANO = 10_000;

/** Scores within this of the lowest are the same: chosen by chance, so that engines do not all choose one backend. */
const NEAR_TIE = 1.02;

/** Share of decisions that try a healthy candidate predicted not to meet the targets, if it is idle: predictions of backends nobody uses rot. */
const EXPLORE_SHARE = 0.01;

/** Share of decisions that go to a candidate in the band of which too little is known, so that it becomes known. */
const ACQUAINT_SHARE = 0.05;

/** A lower bound for the score in the tie rule, ms, so that zero scores tie too. */
const TIE_FLOOR_MS = 0.5;

/** What lateness is held against, and what it is worth: the class's side of a decision. */
export interface PickWeights {
  /** Targets, ms; Infinity = none. */
  readonly ttftTargetMs: number;
  readonly tpotTargetMs: number;
  /** Share of the targets that predictions must stay within. */
  readonly headroom: number;
  /** Nano-USD that a second late is worth. */
  readonly nanoPerLateSecond: number;
}

/** Candidates as parallel arrays, `count` long. */
export interface PickTable {
  count: number;
  standing: Uint8Array;
  gateMs: Float64Array;
  tpotMs: Float64Array;
  scoreMs: Float64Array;
  /** 1 = nothing was heard of it lately: its prediction may have rotted. */
  idle: Uint8Array;
  marginalNano: Float64Array;
  /** True when the loads of other engines are not known: then two candidates are drawn instead of all being compared. */
  sampled: boolean;
  /** The candidate that holds the most of the prompt, worth comparing in any case; -1 = none. */
  holder: number;
  /** Expected output tokens, for what lateness adds up to. */
  outputTokens: number;
  /** Written by `pick`: indices, best first, without those that are out. */
  order: Int32Array;
  /** Written by `pick`: 1 = predicted to meet the targets. */
  feasible: Uint8Array;
  group: Uint8Array;
  key: Float64Array;
}

/** A table for up to `size` candidates. */
export function createTable(size: number): PickTable {
  return {
    count: 0,
    standing: new Uint8Array(size),
    gateMs: new Float64Array(size),
    tpotMs: new Float64Array(size),
    scoreMs: new Float64Array(size),
    idle: new Uint8Array(size),
    marginalNano: new Float64Array(size),
    sampled: false,
    holder: -1,
    outputTokens: 0,
    order: new Int32Array(size),
    feasible: new Uint8Array(size),
    group: new Uint8Array(size),
    key: new Float64Array(size),
  };
}

const GROUP = { trial: 0, band: 1, feasible: 2, uncertain: 3, late: 4, busy: 5 } as const;

/**
 * Share of the pace target that the prediction for now must stay within: requests that come later slow an answer down, and nine of
 * ten answers end within an eighth above the pace they were predicted.
 */
const PACE_HEADROOM = 0.89;

/**
 * Orders the candidates (routing, section 1.2): among those that meet the targets, the cheapest and those within 10 % of it by
 * lowest score; without any, the least bad in money and lateness. Near-ties and one exploration in a hundred go by chance, drawn
 * from `seed` alone, so that a recorded table gives the recorded order again. Returns how many are in `order`.
 */
export function pick(table: PickTable, weights: PickWeights, seed: number, explore: boolean): number {
  const feasible = markFeasible(table, weights);
  throttleUncertain(table);
  const ceiling = bandCeiling(table);
  rank(table, weights, ceiling);
  const count = sort(table);
  if (count > 1) promoteByChance(table, count, seed, explore && feasible > 0);
  return count;
}

function markFeasible(table: PickTable, weights: PickWeights): number {
  const ttft = weights.headroom * weights.ttftTargetMs;
  const tpot = weights.headroom * PACE_HEADROOM * weights.tpotTargetMs;
  let feasible = 0;
  for (let at = 0; at < table.count; at++) {
    const meets = table.gateMs[at]! <= ttft && table.tpotMs[at]! <= tpot;
    table.feasible[at] = meets ? 1 : 0;
    if (meets && table.standing[at]! <= STANDING.fresh) feasible++;
  }
  return feasible;
}

/** A candidate hardly known that has its quota in flight waits behind those that are known, unless there are none. */
function throttleUncertain(table: PickTable): void {
  for (let at = 0; at < table.count; at++) if (table.standing[at]! <= STANDING.fresh) return;
  for (let at = 0; at < table.count; at++) if (table.standing[at] === STANDING.uncertain) table.standing[at] = STANDING.free;
}

function bandCeiling(table: PickTable): number {
  let cheapest = Number.POSITIVE_INFINITY;
  for (let at = 0; at < table.count; at++) {
    if (table.standing[at]! <= STANDING.fresh && table.feasible[at] === 1) cheapest = Math.min(cheapest, table.marginalNano[at]!);
  }
  return cheapest * BAND_FACTOR + BAND_NANO;
}

function rank(table: PickTable, weights: PickWeights, ceiling: number): void {
  const free = isFree(table);
  for (let at = 0; at < table.count; at++) {
    const standing = table.standing[at]!;
    if (standing === STANDING.trial) setRank(table, at, GROUP.trial, table.scoreMs[at]!);
    else if (standing === STANDING.busy) setRank(table, at, GROUP.busy, table.scoreMs[at]!);
    else if (standing === STANDING.uncertain) setRank(table, at, GROUP.uncertain, table.scoreMs[at]!);
    else if (table.feasible[at] === 0) setRank(table, at, GROUP.late, free ? table.scoreMs[at]! : badness(table, weights, at));
    else if (table.marginalNano[at]! <= ceiling) setRank(table, at, GROUP.band, table.scoreMs[at]!);
    else setRank(table, at, GROUP.feasible, table.marginalNano[at]!);
  }
}

/**
 * Whether no candidate costs money. Then nothing but time is at stake, and lateness of one must not be bought with everybody's: the
 * score, which counts what a request costs the others, decides among late candidates too.
 */
function isFree(table: PickTable): boolean {
  for (let at = 0; at < table.count; at++) if (table.standing[at] !== STANDING.out && table.marginalNano[at]! > 0) return false;
  return true;
}

function setRank(table: PickTable, at: number, group: number, key: number): void {
  table.group[at] = group;
  table.key[at] = key;
}

/** Money and lateness of a candidate that will be late, nano-USD. */
function badness(table: PickTable, weights: PickWeights, at: number): number {
  const first = Math.max(0, table.gateMs[at]! - weights.ttftTargetMs);
  const rest = table.outputTokens * Math.max(0, table.tpotMs[at]! - weights.tpotTargetMs);
  return table.marginalNano[at]! + (weights.nanoPerLateSecond * (first + rest)) / 1_000;
}

/** Insertion sort by (group, key): candidate sets are small and nearly sorted sets are common. */
function sort(table: PickTable): number {
  const { order, group, key, standing } = table;
  let count = 0;
  for (let at = 0; at < table.count; at++) {
    if (standing[at] === STANDING.out) continue;
    let place = count++;
    while (place > 0) {
      const other = order[place - 1]!;
      if (group[other]! < group[at]! || (group[other] === group[at] && key[other]! <= key[at]!)) break;
      order[place] = other;
      place--;
    }
    order[place] = at;
  }
  return count;
}

function promoteByChance(table: PickTable, count: number, seed: number, explore: boolean): void {
  const { order, group, key } = table;
  const first = group[order[0]!]!;
  if (first === GROUP.trial) return;
  if (explore && chance(seed, 1) < EXPLORE_SHARE) {
    let from = 0;
    while (from < count && group[order[from]!]! < GROUP.late) from++;
    let until = from;
    while (until < count && group[order[until]!] === GROUP.late) until++;
    const place = from + Math.floor(chance(seed, 2) * (until - from));
    if (until > from && table.idle[order[place]!] === 1) return moveToFront(order, place);
  }
  if (first !== GROUP.band) return;
  if (explore && chance(seed, 4) < ACQUAINT_SHARE) {
    for (let place = 1; place < count && group[order[place]!] === GROUP.band; place++) {
      if (table.standing[order[place]!] === STANDING.fresh) return moveToFront(order, place);
    }
  }
  if (table.sampled) return moveToFront(order, sampledPlace(table, count, seed));
  const bound = Math.max(TIE_FLOOR_MS, key[order[0]!]! * NEAR_TIE);
  let ties = 1;
  while (ties < count && group[order[ties]!] === GROUP.band && key[order[ties]!]! <= bound) ties++;
  if (ties > 1) moveToFront(order, Math.floor(chance(seed, 3) * ties));
}

/** The better of two of the band drawn by chance and the prefix's holder: engines blind to each other must not all take the best. */
function sampledPlace(table: PickTable, count: number, seed: number): number {
  let band = 0;
  let holder = count;
  while (band < count && table.group[table.order[band]!] === GROUP.band) {
    if (table.order[band] === table.holder) holder = band;
    band++;
  }
  return Math.min(Math.floor(chance(seed, 5) * band), Math.floor(chance(seed, 6) * band), holder);
}

function moveToFront(order: Int32Array, from: number): void {
  const chosen = order[from]!;
  for (let place = from; place > 0; place--) order[place] = order[place - 1]!;
  order[0] = chosen;
}

/** The `draw`-th uniform number of a seed, in [0, 1) (mulberry32's finaliser). */
export function chance(seed: number, draw: number): number {
  let mixed = (seed + Math.imul(draw, 0x6d2b79f5)) | 0;
  mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
  mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
}
