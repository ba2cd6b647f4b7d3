import type { Config } from "#libs/config/index.ts";
import { type Attempted, ClassQueue, type Waiter } from "./class-queue.ts";
import { Heap } from "./heap.ts";
import { accountOf, type Denial, deny, type Resolved, type SchedulingClass } from "./resolve.ts";

export type { Attempted, Waiter };

/** Classes in the order they are served. */
export const CLASSES: readonly SchedulingClass[] = ["system", "interactive", "standard", "batch"];

/** Queue of the internal class: probes and judges are few. */
const SYSTEM_QUEUE = { queueMax: 64, maxWaitMs: 10_000, minShare: 0 } as const;

/** Whoever has waited this long may go before everyone and through the class's ceiling, ms. Batch work has hours. */
const PROMOTED_AFTER_MS: Readonly<Record<SchedulingClass, number>> = {
  system: 5_000,
  interactive: 5_000,
  standard: 30_000,
  batch: 600_000,
};

/** Retry-After of a full queue: what it takes to empty it at the present pace, within these bounds, ms. */
const RETRY_AFTER_MIN_MS = 1_000;
const RETRY_AFTER_MAX_MS = 30_000;

/** Pace below which nothing is predicted from it, dispatches a second. */
const PACE_MIN_PER_S = 0.5;

/** Dispatches of one pump that may go to a class below its guaranteed share: the next pump comes with the next free slot. */
const SHARE_BATCH = 4;

/** Tries to dispatch a waiter. `lifted`: its class's ceiling does not hold this once. */
export type Attempt = (waiter: Waiter, lifted: boolean) => Attempted;

/** What of the configuration scheduling needs. */
export type SchedulingConfig = Pick<Config, "classes" | "tenants">;

/**
 * Holds requests that no backend has room for now. Classes go by strict priority, tempered by a guaranteed share and by age;
 * inside a class each lane goes by tenant fairness and then by the earliest due time. Bounded in number and time; the clock is an
 * argument.
 */
export class Scheduler {
  readonly #queues: readonly ClassQueue[] = CLASSES.map((name) => new ClassQueue(name));
  readonly #expiries = new Heap<Waiter>((a, b) => a.expiresMs < b.expiresMs);
  #config: SchedulingConfig;
  #order = 0;
  #pumping = false;

  constructor(config: SchedulingConfig) {
    this.#config = config;
  }

  /** Follows a new configuration; who waits already keeps the time given. */
  configure(config: SchedulingConfig): void {
    this.#config = config;
  }

  /** Requests waiting in a class. */
  depth(name: SchedulingClass): number {
    return this.#queue(name).depth;
  }

  /** Requests waiting in all. */
  get size(): number {
    let size = 0;
    for (const queue of this.#queues) size += queue.depth;
    return size;
  }

  /** Whether a request must line up because others like it, of its class or a better one, wait already. */
  hasAhead(resolved: Resolved): boolean {
    for (const queue of this.#queues) {
      if (queue.hasLane(resolved)) return true;
      if (queue.name === resolved.class) return false;
    }
    return false;
  }

  /** How long a request of a class may wait, ms; 0 = there is no place for it to wait. */
  patienceOf(name: SchedulingClass): number {
    const { queueMax, maxWaitMs } = this.#limits(name);
    return this.#queue(name).depth < queueMax ? maxWaitMs : 0;
  }

  /** When the one came that has waited longest in a class, ms; Infinity = nobody waits there. */
  waitingSince(name: SchedulingClass): number {
    return this.#queue(name).oldest()?.arrivedMs ?? Number.POSITIVE_INFINITY;
  }

  /** Whether it is this one's turn among those like it. */
  isNext(waiter: Waiter, nowMs: number): boolean {
    return this.#queue(waiter.resolved.class).isNext(waiter, nowMs);
  }

  /** Lines a request up, `first` before its equals, or says why not: the class's queue is full, or it would be served too late. */
  enqueue(resolved: Resolved, nowMs: number, refuse: (denial: Denial) => void, first = false): Waiter | Denial {
    const queue = this.#queue(resolved.class);
    const { queueMax, maxWaitMs } = this.#limits(resolved.class);
    if (queue.depth >= queueMax) makeRoom(queue, accountOf(resolved.request), nowMs);
    if (queue.depth >= queueMax) {
      return deny("QUEUE_FULL", `The ${resolved.class} queue is full (${queueMax} requests)`, { retryAfterMs: retryAfterMs(queue, nowMs) });
    }
    const waitMs = predictedWaitMs(queue, nowMs);
    if (waitMs > resolved.deadlineMs) {
      const detail = `The wait would be about ${Math.ceil(waitMs / 1_000)} s, beyond the deadline`;
      return deny("QUEUE_FULL", detail, { retryAfterMs: retryAfterMs(queue, nowMs) });
    }
    const waiter: Waiter = {
      resolved,
      arrivedMs: nowMs,
      dueMs: nowMs + resolved.ttftTargetMs,
      expiresMs: nowMs + Math.min(maxWaitMs, resolved.deadlineMs),
      order: first ? -this.#order++ : this.#order++,
      refuse,
      settled: false,
      late: false,
    };
    queue.add(waiter, nowMs);
    this.#expiries.push(waiter);
    return waiter;
  }

  /** A request was dispatched, from the queue or not: `weightedTokens` of service for its tenant and class. */
  served(name: SchedulingClass, tenant: string, weightedTokens: number, nowMs: number): void {
    const queue = this.#queue(name);
    queue.serve(weightedTokens, nowMs);
    queue.fairness.serve(tenant, weightedTokens / this.#weightOf(tenant), nowMs);
    for (const each of this.#queues) if (each.depth > 0) each.earnPromotion();
  }

  /** Service that turned out larger or smaller than was charged. */
  correct(name: SchedulingClass, tenant: string, weightedTokens: number, nowMs: number): void {
    this.#queue(name).fairness.charge(tenant, weightedTokens / this.#weightOf(tenant), nowMs);
  }

  /** Takes a waiter out without an answer. */
  cancel(waiter: Waiter): void {
    this.#queue(waiter.resolved.class).settle(waiter);
  }

  /**
   * Offers the waiters, best first, to `attempt`, which dispatches or refuses one ("settled") or finds no room for it ("blocked",
   * then its lane is left). To be called whenever room may have come free.
   */
  pump(nowMs: number, attempt: Attempt): void {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      for (const queue of this.#queues) if (queue.depth > 0) this.#promote(queue, nowMs, attempt);
      for (const queue of this.#queues) if (queue.depth > 0) this.#guarantee(queue, nowMs, attempt);
      for (const queue of this.#queues) {
        if (queue.depth > 0) queue.offer(nowMs, Number.POSITIVE_INFINITY, (waiter) => attempt(waiter, false));
      }
    } finally {
      this.#pumping = false;
    }
  }

  /** Refuses whoever has waited too long. */
  expire(nowMs: number): void {
    for (let waiter = this.#expiries.peek(); waiter !== undefined; waiter = this.#expiries.peek()) {
      if (!waiter.settled && waiter.expiresMs > nowMs) return;
      this.#expiries.pop();
      if (waiter.settled) continue;
      const queue = this.#queue(waiter.resolved.class);
      queue.settle(waiter);
      waiter.refuse(expiryOf(waiter, queue, nowMs));
    }
  }

  /** Refuses everyone, as when the engine stops. */
  clear(denial: Denial): void {
    for (const queue of this.#queues) {
      for (const waiter of queue.waiters()) {
        queue.settle(waiter);
        waiter.refuse(denial);
      }
    }
  }

  /** The one who has waited longest, if too long, goes first and through the ceiling. */
  #promote(queue: ClassQueue, nowMs: number, attempt: Attempt): void {
    const oldest = queue.oldest();
    if (oldest === undefined || nowMs - oldest.arrivedMs < PROMOTED_AFTER_MS[queue.name] || !queue.takePromotion()) return;
    if (attempt(oldest, true) !== "settled") return;
    queue.settle(oldest);
    queue.paceUp(nowMs);
  }

  /** A class below its guaranteed share of the tokens goes first and through its ceiling. */
  #guarantee(queue: ClassQueue, nowMs: number, attempt: Attempt): void {
    const { minShare } = this.#limits(queue.name);
    for (let count = 0; count < SHARE_BATCH && minShare > 0 && this.#shareOf(queue, nowMs) < minShare; count++) {
      if (queue.offer(nowMs, 1, (waiter) => attempt(waiter, true)) === 0) return;
    }
  }

  #shareOf(queue: ClassQueue, nowMs: number): number {
    let all = 0;
    for (const each of this.#queues) all += each.servedTokens(nowMs);
    return all === 0 ? 1 : queue.servedTokens(nowMs) / all;
  }

  #weightOf(tenant: string): number {
    return Math.max(Number.EPSILON, this.#config.tenants.get(tenant)?.limits.weight ?? 1);
  }

  #queue(name: SchedulingClass): ClassQueue {
    return this.#queues[CLASSES.indexOf(name)]!;
  }

  #limits(name: SchedulingClass): { readonly queueMax: number; readonly maxWaitMs: number; readonly minShare: number } {
    return name === "system" ? SYSTEM_QUEUE : this.#config.classes[name];
  }
}

/** A full queue is shared too: whoever takes up the most of it gives its latest place to a tenant with less. */
function makeRoom(queue: ClassQueue, tenant: string, nowMs: number): void {
  const victim = queue.pushOut(tenant);
  if (victim === undefined) return;
  queue.settle(victim);
  const detail = `The ${queue.name} queue is full, and most of it was this tenant's`;
  victim.refuse(deny("QUEUE_FULL", detail, { retryAfterMs: retryAfterMs(queue, nowMs) }));
}

function expiryOf(waiter: Waiter, queue: ClassQueue, nowMs: number): Denial {
  const waitedS = Math.ceil((nowMs - waiter.arrivedMs) / 1_000);
  if (waiter.arrivedMs + waiter.resolved.deadlineMs <= nowMs) {
    return deny("DEADLINE_EXCEEDED", `The deadline passed after ${waitedS} s in the ${queue.name} queue`);
  }
  return deny("QUEUE_FULL", `No backend had room within ${waitedS} s`, { retryAfterMs: retryAfterMs(queue, nowMs) });
}

function predictedWaitMs(queue: ClassQueue, nowMs: number): number {
  const pace = queue.pace(nowMs);
  return pace < PACE_MIN_PER_S ? 0 : (queue.depth / pace) * 1_000;
}

function retryAfterMs(queue: ClassQueue, nowMs: number): number {
  const pace = Math.max(PACE_MIN_PER_S, queue.pace(nowMs));
  return Math.ceil(Math.min(RETRY_AFTER_MAX_MS, Math.max(RETRY_AFTER_MIN_MS, (queue.depth / pace) * 1_000)));
}
