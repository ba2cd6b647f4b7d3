import { modelLimit } from "./limits.ts";
import { gapMs } from "./predict.ts";
import type { PolicySnapshot } from "./snapshot.ts";
import type { BackendState } from "./state.ts";

/**
 * A tenant is heavy while it was given more than this many times the work, by weight, that the others were on average. Work given,
 * not requests in flight: on slow engines these grow, and whoever is kept from the fast ones would stay heavy for that.
 */
const HEAVY_FACTOR = 4;

/** It stays heavy until below this: being kept from some engines, it is given less. */
const STAYS_HEAVY_FACTOR = 1.5;

/** Work given, and the most a tenant had in flight, count for this long (e-fold), ms: light tenants have nothing in flight now and then. */
const RECENT_TAU_MS = 10_000;

/** The most a tenant had in flight counts for this long (e-fold), ms. */
const PEAK_TAU_MS = 60_000;

/** A tenant whose recent peak is below this is forgotten. */
const PEAK_LEAST = 0.05;

/** An engine this many times below what it can do at its pace serves nearly as if it were idle. */
const CLEAR_FACTOR = 12;

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
  inFlight: number;
  /** Most in flight at once, and tokens given, lately; both fade. */
  peak: number;
  work: number;
}

/** One model: its tenants, those of them that are heavy, and the backends kept clear of these. */
interface Pool {
  readonly tenants: Map<string, Occupancy>;
  readonly heavy: Set<string>;
  readonly clear: Map<number, number>;
}

/**
 * What tenants take up of the engines of a model. Fair turns in the queue do not help a light tenant when every engine is full of a
 * heavy one's work: it then finds none that keeps its pace. So while a heavy tenant has much more in flight than the others, as many
 * of the fastest engines as serve the others nearly as if idle are kept clear of it, at most half.
 */
export class TenantShares {
  readonly #pools = new Map<string, Pool>();
  #refreshedAtMs = 0;

  /** A request of the tenant, expected to be of so many tokens, goes to some backend of the model. */
  take(model: string, tenant: string, tokens: number): void {
    let pool = this.#pools.get(model);
    if (pool === undefined) {
      if (this.#pools.size >= POOLS_MAX) return;
      this.#pools.set(model, (pool = { tenants: new Map(), heavy: new Set(), clear: new Map() }));
    }
    let occupancy = pool.tenants.get(tenant);
    if (occupancy === undefined) {
      if (pool.tenants.size >= TENANTS_MAX) return;
      pool.tenants.set(tenant, (occupancy = { inFlight: 0, peak: 0, work: 0 }));
    }
    occupancy.inFlight += 1;
    occupancy.work += tokens;
    if (occupancy.inFlight > occupancy.peak) occupancy.peak = occupancy.inFlight;
  }

  /** It has left that backend. */
  release(model: string, tenant: string): void {
    const occupancy = this.#pools.get(model)?.tenants.get(tenant);
    if (occupancy !== undefined && occupancy.inFlight > 0) occupancy.inFlight -= 1;
  }

  /** Most requests at once up to which the tenant may use the backend (by index); Infinity = it is not held back there. */
  mostFor(model: string, tenant: string, backend: number): number {
    const pool = this.#pools.get(model);
    if (pool === undefined || pool.clear.size === 0 || !pool.heavy.has(tenant)) return Number.POSITIVE_INFINITY;
    return pool.clear.get(backend) ?? Number.POSITIVE_INFINITY;
  }

  /** Works out anew who is heavy and what is kept clear. To be called a few times a second. */
  refresh(snapshot: PolicySnapshot, backends: readonly BackendState[], nowMs: number): void {
    const keep = Math.exp((this.#refreshedAtMs - nowMs) / RECENT_TAU_MS);
    const keepPeak = Math.exp((this.#refreshedAtMs - nowMs) / PEAK_TAU_MS);
    this.#refreshedAtMs = nowMs;
    for (const [model, pool] of this.#pools) {
      fade(pool, keep, keepPeak);
      if (pool.tenants.size === 0) this.#pools.delete(model);
      const needed = pool.tenants.size < 2 ? 0 : markHeavy(pool, snapshot);
      if (needed > 0) keepClear(pool, needed, snapshot.models.get(model)?.candidates ?? [], snapshot, backends, nowMs);
      else pool.clear.clear();
    }
  }
}

function fade(pool: Pool, keep: number, keepPeak: number): void {
  for (const [tenant, occupancy] of pool.tenants) {
    occupancy.peak = Math.max(occupancy.inFlight, occupancy.peak * keepPeak);
    occupancy.work *= keep;
    if (occupancy.peak >= PEAK_LEAST) continue;
    pool.tenants.delete(tenant);
    pool.heavy.delete(tenant);
  }
}

/** Marks the heavy tenants; returns what the others have in flight at their peaks, 0 when nobody is heavy. */
function markHeavy(pool: Pool, snapshot: PolicySnapshot): number {
  const byWeight = (tenant: string, { work }: Occupancy): number =>
    work / Math.max(Number.EPSILON, snapshot.config.tenants.get(tenant)?.limits.weight ?? 1);
  let all = 0;
  for (const [tenant, occupancy] of pool.tenants) all += byWeight(tenant, occupancy);
  let light = 0;
  for (const [tenant, occupancy] of pool.tenants) {
    const own = byWeight(tenant, occupancy);
    const factor = pool.heavy.has(tenant) ? STAYS_HEAVY_FACTOR : HEAVY_FACTOR;
    if (own > (factor * (all - own)) / (pool.tenants.size - 1)) pool.heavy.add(tenant);
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
    if (!compiled.structural || state.ejected || snapshot.drained[index] === 1 || state.breaker.state(nowMs).kind !== "closed") continue;
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
