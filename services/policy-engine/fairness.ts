/** Counters halve in this long, ms: yesterday's heavy user is not today's debtor. */
const HALF_LIFE_MS = 60_000;

/** Tenants remembered; beyond that the ones not heard of longest start anew. */
const TENANTS_MAX = 10_000;

/** A tenant served within this long is not idle, though none of its requests may wait just now, ms. */
const ACTIVE_MS = 10_000;

/** Weighted tokens by which such a tenant may stay behind those that wait: some fifty ordinary requests. */
const ACTIVE_CREDIT = 100_000;

/** How long an account keeps its place among those not heard of before it goes to the end again, ms: moving it each time is dear. */
const MOVED_MS = 1_000;

interface Account {
  service: number;
  atMs: number;
  /** When it went to the end. */
  movedMs: number;
}

/**
 * Virtual token counters (VTC, OSDI 2024) with decay: what each tenant was served, in weighted tokens. Whoever has the least goes
 * next. A tenant that comes back from idleness is lifted to the least of those waiting, or to whoever was served last where nobody
 * waits, so that silence earns no burst.
 */
export class Fairness {
  readonly #accounts = new Map<string, Account>();
  /** Whoever was served last. */
  #last = "";

  /** Weighted tokens served, as of `nowMs`. */
  served(tenant: string, nowMs: number): number {
    const account = this.#accounts.get(tenant);
    return account === undefined ? 0 : account.service * 2 ** ((account.atMs - nowMs) / HALF_LIFE_MS);
  }

  /** What whoever was served last has been served in all; 0 = nobody yet. */
  lastServed(nowMs: number): number {
    return this.served(this.#last, nowMs);
  }

  /**
   * Serves a tenant. One that was idle is lifted first, though it does not wait: a newcomer that fills every engine before anybody
   * has to wait would go before all others as soon as they must.
   */
  serve(tenant: string, weightedTokens: number, nowMs: number): void {
    if (this.#isIdle(tenant, nowMs)) this.lift(tenant, this.lastServed(nowMs), nowMs);
    this.charge(tenant, weightedTokens, nowMs);
    this.#last = tenant;
  }

  /** Corrects what was served; negative when a prediction charged too much. */
  charge(tenant: string, weightedTokens: number, nowMs: number): void {
    this.#set(tenant, Math.max(0, this.served(tenant, nowMs) + weightedTokens), nowMs);
  }

  /**
   * One of the tenant's requests begins to wait, and no other does: raises it to `floor`, the least of those that wait. A light
   * tenant has nothing in the queue between any two of its requests; raised all the way each time, it would owe for what the others
   * use, so it keeps a credit that is bounded.
   */
  lift(tenant: string, floor: number, nowMs: number): void {
    const least = this.#isIdle(tenant, nowMs) ? floor : floor - ACTIVE_CREDIT;
    if (this.served(tenant, nowMs) < least) this.#set(tenant, least, nowMs);
  }

  #isIdle(tenant: string, nowMs: number): boolean {
    const account = this.#accounts.get(tenant);
    return account === undefined || nowMs - account.atMs > ACTIVE_MS;
  }

  #set(tenant: string, service: number, nowMs: number): void {
    const account = this.#accounts.get(tenant);
    if (account !== undefined && nowMs - account.movedMs < MOVED_MS) {
      account.service = service;
      account.atMs = nowMs;
      return;
    }
    this.#accounts.delete(tenant);
    if (this.#accounts.size >= TENANTS_MAX) this.#accounts.delete(this.#accounts.keys().next().value!);
    this.#accounts.set(tenant, { service, atMs: nowMs, movedMs: nowMs });
  }
}
