import { modelLimit, sustainedLimit } from "./limits.ts";
import { gapMs } from "./predict.ts";
import { accountOf, type Resolved } from "./resolve.ts";
import type { PolicySnapshot } from "./snapshot.ts";
import type { BackendState } from "./state.ts";

/**
 * A tenant is heavy while it was given more than this many times the work, by weight, that the others were on average, or has this
 * many times as many requests here as they had at their peaks: the work of a flood adds up in seconds, its requests in no time, and
 * where there is room for few of them it is never given much.
 */
const HEAVY_FACTOR = 4;

/** Requests that others count for at least: a handful beside nobody's is no flood. */
const PEAK_FLOOR = 1;

/**
 * A flood is seen before that, and for its first seconds: a tenant with this many times the requests that the others had at their
 * peaks, and this many times what it had itself lately. By the time it has four times as many, answers of the others run beside
 * dozens of its own.
 */
const SURGE_FACTOR = 1.5;
const SURGE_OVER_USUAL = 2;

/** Requests up to which nobody surges: few do no harm. */
const SURGE_FLOOR = 8;

/**
 * By its work it stays heavy until below this: being kept from some engines, it is given less. Not by its requests: on slow engines
 * these grow, and whoever is kept from the fast ones would stay heavy for that.
 */
const STAYS_HEAVY_FACTOR = 1.5;

/** Work given counts for this long (e-fold), ms. */
const RECENT_TAU_MS = 10_000;

/** The most requests a tenant had here count for this long (e-fold), ms: light tenants have none now and then. */
const PEAK_TAU_MS = 60_000;

/** A tenant whose recent peak is below this is forgotten. */
const PEAK_LEAST = 0.05;

/** An engine this many times below what it can do at its pace serves nearly as if it were idle. */
const CLEAR_FACTOR = 6;

/**
 * Requests at once up to which a heavy tenant may use an engine that is kept clear: what stands idle, and no more. Each further one makes
 * every answer there slower for as long as it runs.
 */
const HEAVY_MOST = 1;

/** No further engine is kept clear once this share of what they all can do is: beyond it, room nobody uses costs more than it saves. */
const CLEAR_SHARE = 0.5;

/**
 * The first engine kept clear stays so unless another is this much faster, the further ones with less and less of that advantage: a
 * place that changes, if only between two of them, sends the light tenant to an engine that is full of the heavy one's work.
 */
const STICKY = 1.5;

/** Models and tenants that are followed; beyond that nobody is held back. */
const POOLS_MAX = 1_000;
const TENANTS_MAX = 10_000;

interface Occupancy {
  /** Share it is entitled to, as of the latest refresh. */
  weight: number;
  /** Its requests here: at some engine, or waiting for one. */
  requests: number;
  /** Most of them at once, and tokens given, lately; both fade. */
  peak: number;
  work: number;
  /** Mean of its requests, over the time for which work counts. */
  usual: number;
  /** Whether it is heavy by more than a surge. */
  heavy: boolean;
}

/** One model: its tenants, those of them that are heavy or surge, the backends kept clear of these, and what they may fill of the others. */
interface Pool {
  readonly tenants: Map<string, Occupancy>;
  /** Peaks of all its tenants, by weight. */
  peaks: number;
  readonly heavy: Set<string>;
  readonly clear: Map<number, number>;
  readonly sustained: Map<number, number>;
}

/**
 * What tenants take up of the engines of a model. Fair turns in the queue do not help a light tenant when every engine is full of a
 * heavy one's work: it then finds none that keeps its pace. So while a heavy tenant has much more in flight than the others, as many
 * of the fastest engines as serve the others nearly as if idle are kept clear of it, at most half. The others take of it what they
 * can do at their pace in the long run: a peak is let in further, and what was sent there before the flood suffers by it.
 */
export class TenantShares {
  readonly #pools = new Map<string, Pool>();
  #refreshedAtMs = 0;
  #isDue = false;

  /** Whether somebody has become heavy since the last refresh: a flood fills every engine within a tick. */
  get isDue(): boolean {
    return this.#isDue;
  }

  /** A request of the tenant comes, until it leaves: it waits for a backend of the model, or goes to one, which is given so many tokens. */
  enter(model: string, tenant: string, tokens = 0): void {
    const pool = this.#poolOf(model);
    const occupancy = pool === undefined ? undefined : occupancyOf(pool, tenant);
    if (pool === undefined || occupancy === undefined) return;
    occupancy.requests += 1;
    occupancy.work += tokens;
    if (occupancy.requests > occupancy.peak) {
      pool.peaks += (occupancy.requests - occupancy.peak) / occupancy.weight;
      occupancy.peak = occupancy.requests;
    }
    if (!pool.heavy.has(tenant) && (surges(pool, occupancy) || crowds(pool, occupancy))) this.#isDue = true;
  }

  /** It has left that backend, or waits no more. */
  leave(model: string, tenant: string): void {
    const occupancy = this.#pools.get(model)?.tenants.get(tenant);
    if (occupancy !== undefined && occupancy.requests > 0) occupancy.requests -= 1;
  }

  /** A request waits for some backend. Batch work waits by design: that makes nobody heavy. */
  beginWait({ class: name, model, request }: Resolved): void {
    if (name !== "batch") this.enter(model.name, accountOf(request));
  }

  /** It waits no more, wherever it goes. */
  endWait({ class: name, model, request }: Resolved): void {
    if (name !== "batch") this.leave(model.name, accountOf(request));
  }

  /** Whether the tenant is held back anywhere. */
  holdsBack(model: string, tenant: string): boolean {
    return this.#holdingBack(model, tenant) !== undefined;
  }

  /** Most requests at once up to which the tenant may use the backend (by index); Infinity = it is not held back there. */
  mostFor(model: string, tenant: string, backend: number): number {
    const pool = this.#holdingBack(model, tenant);
    return pool?.clear.get(backend) ?? pool?.sustained.get(backend) ?? Number.POSITIVE_INFINITY;
  }

  /** Whether a backend (by index) is kept clear of the model's heavy tenants. */
  isClear(model: string, backend: number): boolean {
    return this.#pools.get(model)?.clear.has(backend) === true;
  }

  /** Works out anew who is heavy and what is kept clear. To be called a few times a second, and when it is due. */
  refresh(snapshot: PolicySnapshot, backends: readonly BackendState[], nowMs: number): void {
    const keep = Math.exp((this.#refreshedAtMs - nowMs) / RECENT_TAU_MS);
    const keepPeak = Math.exp((this.#refreshedAtMs - nowMs) / PEAK_TAU_MS);
    this.#refreshedAtMs = nowMs;
    this.#isDue = false;
    for (const [model, pool] of this.#pools) {
      fade(pool, snapshot, keep, keepPeak);
      if (pool.tenants.size === 0) this.#pools.delete(model);
      const needed = pool.tenants.size < 2 ? 0 : markHeavy(pool);
      pool.sustained.clear();
      if (needed > 0) keepClear(pool, needed, snapshot.models.get(model)?.candidates ?? [], snapshot, backends, nowMs);
      else pool.clear.clear();
    }
  }

  /** The pool that holds the tenant back; undefined = none does. */
  #holdingBack(model: string, tenant: string): Pool | undefined {
    const pool = this.#pools.get(model);
    return pool !== undefined && pool.clear.size > 0 && pool.heavy.has(tenant) ? pool : undefined;
  }

  #poolOf(model: string): Pool | undefined {
    let pool = this.#pools.get(model);
    if (pool !== undefined || this.#pools.size >= POOLS_MAX) return pool;
    this.#pools.set(model, (pool = { tenants: new Map(), peaks: 0, heavy: new Set(), clear: new Map(), sustained: new Map() }));
    return pool;
  }
}

function occupancyOf({ tenants }: Pool, tenant: string): Occupancy | undefined {
  let occupancy = tenants.get(tenant);
  if (occupancy !== undefined || tenants.size >= TENANTS_MAX) return occupancy;
  tenants.set(tenant, (occupancy = { weight: 1, requests: 0, peak: 0, work: 0, usual: 0, heavy: false }));
  return occupancy;
}

function fade(pool: Pool, snapshot: PolicySnapshot, keep: number, keepPeak: number): void {
  pool.peaks = 0;
  for (const [tenant, occupancy] of pool.tenants) {
    occupancy.weight = Math.max(Number.EPSILON, snapshot.config.tenants.get(tenant)?.limits.weight ?? 1);
    occupancy.peak = Math.max(occupancy.requests, occupancy.peak * keepPeak);
    occupancy.work *= keep;
    occupancy.usual = keep * occupancy.usual + (1 - keep) * occupancy.requests;
    pool.peaks += occupancy.peak / occupancy.weight;
    if (occupancy.peak >= PEAK_LEAST) continue;
    pool.tenants.delete(tenant);
    pool.heavy.delete(tenant);
  }
}

/** Requests of the other tenants at their peaks, by weight: the mean. */
function othersPeak({ tenants, peaks }: Pool, { peak, weight }: Occupancy): number {
  return tenants.size < 2 ? Number.POSITIVE_INFINITY : (peaks - peak / weight) / (tenants.size - 1);
}

/** Whether a tenant has so many more requests here than the others had at their peaks that it is heavy whatever work that is. */
function crowds(pool: Pool, occupancy: Occupancy): boolean {
  return occupancy.requests / occupancy.weight > HEAVY_FACTOR * Math.max(PEAK_FLOOR, othersPeak(pool, occupancy));
}

/** Whether a tenant begins to flood. */
function surges(pool: Pool, occupancy: Occupancy): boolean {
  const { requests, usual, weight } = occupancy;
  return requests > SURGE_OVER_USUAL * usual && requests / weight > Math.max(SURGE_FLOOR, SURGE_FACTOR * othersPeak(pool, occupancy));
}

/** Marks the heavy tenants; returns how many requests the others have at their peaks, 0 when nobody is heavy. */
function markHeavy(pool: Pool): number {
  let all = 0;
  for (const { work, weight } of pool.tenants.values()) all += work / weight;
  let light = 0;
  for (const [tenant, occupancy] of pool.tenants) {
    const own = occupancy.work / occupancy.weight;
    const factor = occupancy.heavy ? STAYS_HEAVY_FACTOR : HEAVY_FACTOR;
    occupancy.heavy = own > (factor * (all - own)) / (pool.tenants.size - 1) || crowds(pool, occupancy);
    if (occupancy.heavy || surges(pool, occupancy)) pool.heavy.add(tenant);
    else {
      pool.heavy.delete(tenant);
      light += occupancy.peak;
    }
  }
  return pool.heavy.size === 0 ? 0 : light;
}

function keepClear(
  pool: Pool,
  needed: number,
  candidates: Iterable<number>,
  snapshot: PolicySnapshot,
  backends: readonly BackendState[],
  nowMs: number,
): void {
  const engines: { index: number; room: number; paceMs: number }[] = [];
  const ranks = [...pool.clear.keys()];
  let room = 0;
  for (const index of candidates) {
    const compiled = snapshot.backends[index]!;
    const state = backends[index]!;
    if (!compiled.structural) continue;
    pool.sustained.set(index, Math.max(1, sustainedLimit(compiled, state, snapshot.paceTargets[index]!)));
    if (state.ejected || snapshot.drained[index] === 1 || state.breaker.state(nowMs).kind !== "closed") continue;
    const most = Math.min(compiled.config.concurrency.max, modelLimit(compiled, state, snapshot.paceTargets[index]!));
    const rank = ranks.indexOf(index);
    const paceMs = gapMs(compiled, state, 1, state.meanContext) / (rank < 0 ? 1 : STICKY ** (1 / (1 + rank)));
    engines.push({ index, room: Math.max(1, most), paceMs });
    room += Math.max(1, most);
  }
  engines.sort((a, b) => a.paceMs - b.paceMs || a.index - b.index);
  pool.clear.clear();
  let clear = 0;
  for (const engine of engines) {
    if (clear >= CLEAR_FACTOR * needed || pool.clear.size >= engines.length - 1) return;
    if (clear > 0 && clear + engine.room > CLEAR_SHARE * room) continue;
    pool.clear.set(engine.index, HEAVY_MOST);
    clear += engine.room;
  }
}
