import type { Config } from "#libs/config/model.ts";
import { Heap } from "./heap.ts";
import { type Denial, deny, type Resolved, type SchedulingClass } from "./resolve.ts";

/** Classes in the order they are served. */
export const CLASSES: readonly SchedulingClass[] = ["system", "interactive", "standard", "batch"];

/** Queue of the internal class: probes and judges are few. */
const SYSTEM_QUEUE = { queueMax: 64, maxWaitMs: 10_000 } as const;

/** Retry-After of a full queue: what it takes to empty it at the present pace, within these bounds, ms. */
const RETRY_AFTER_MIN_MS = 1_000;
const RETRY_AFTER_MAX_MS = 30_000;

/** Time constant of the dispatch pace, ms. */
const PACE_TAU_MS = 10_000;

/** Pace below which nothing is predicted from it, dispatches a second. */
const PACE_MIN_PER_S = 0.5;

/** A request that waits. */
export interface Waiter {
  readonly resolved: Resolved;
  readonly arrivedMs: number;
  /** When its first token is due; what it is ordered by inside its lane. */
  readonly dueMs: number;
  /** When it is given up. */
  readonly expiresMs: number;
  readonly order: number;
  /** Called once with why it will not go; dispatching answers it otherwise. */
  readonly refuse: (denial: Denial) => void;
  settled: boolean;
}

/** What trying to dispatch a waiter came to. */
export type Attempted = "settled" | "blocked";

interface ClassQueue {
  readonly name: SchedulingClass;
  /** Waiters by what they could run on: a request that cannot go holds back only those like it. */
  readonly lanes: Map<string, Heap<Waiter>>;
  depth: number;
  pace: number;
  pacedAtMs: number;
}

/**
 * Holds requests that no backend has room for now. Classes go by strict priority; inside a class each lane (same model, same
 * needs) goes by the earliest due time. Bounded in number and time; the clock is an argument.
 */
export class Scheduler {
  readonly #classes: readonly ClassQueue[];
  readonly #expiries = new Heap<Waiter>((a, b) => a.expiresMs < b.expiresMs);
  #config: Config["classes"];
  #order = 0;
  #pumping = false;

  constructor(config: Config["classes"], nowMs: number) {
    this.#config = config;
    this.#classes = CLASSES.map((name) => ({ name, lanes: new Map(), depth: 0, pace: 0, pacedAtMs: nowMs }));
  }

  /** Follows a new configuration; who waits already keeps the time given. */
  configure(config: Config["classes"]): void {
    this.#config = config;
  }

  /** Requests waiting in a class. */
  depth(name: SchedulingClass): number {
    return this.#queue(name).depth;
  }

  /** Requests waiting in all. */
  get size(): number {
    let size = 0;
    for (const queue of this.#classes) size += queue.depth;
    return size;
  }

  /** Whether a request must line up because others like it, of its class or a better one, wait already. */
  hasAhead(resolved: Resolved): boolean {
    const key = laneOf(resolved);
    for (const queue of this.#classes) {
      if (queue.depth > 0 && queue.lanes.has(key)) return true;
      if (queue.name === resolved.class) return false;
    }
    return false;
  }

  /** Lines a request up, or says why not: the class's queue is full, or it would be served too late. */
  enqueue(resolved: Resolved, nowMs: number, refuse: (denial: Denial) => void): Waiter | Denial {
    const queue = this.#queue(resolved.class);
    const { queueMax, maxWaitMs } = this.#limits(resolved.class);
    if (queue.depth >= queueMax) {
      return deny("QUEUE_FULL", `The ${resolved.class} queue is full (${queueMax} requests)`, {
        retryAfterMs: this.#retryAfterMs(queue, nowMs),
      });
    }
    const waitMs = this.#predictedWaitMs(queue, nowMs);
    if (waitMs > resolved.deadlineMs) {
      return deny("QUEUE_FULL", `The wait would be about ${Math.ceil(waitMs / 1_000)} s, beyond the deadline`, {
        retryAfterMs: this.#retryAfterMs(queue, nowMs),
      });
    }
    const waiter: Waiter = {
      resolved,
      arrivedMs: nowMs,
      dueMs: nowMs + resolved.ttftTargetMs,
      expiresMs: nowMs + Math.min(maxWaitMs, resolved.deadlineMs),
      order: this.#order++,
      refuse,
      settled: false,
    };
    this.#lane(queue, resolved).push(waiter);
    this.#expiries.push(waiter);
    queue.depth += 1;
    return waiter;
  }

  /** Takes a waiter out without an answer. */
  cancel(waiter: Waiter): void {
    if (waiter.settled) return;
    this.#settle(waiter);
    this.#trim(this.#queue(waiter.resolved.class), waiter.resolved);
  }

  /**
   * Offers the waiters, best first, to `attempt`, which dispatches or refuses one ("settled") or finds no room for it ("blocked",
   * then its lane is left). To be called whenever room may have come free.
   */
  pump(nowMs: number, attempt: (waiter: Waiter) => Attempted): void {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      for (const queue of this.#classes) if (queue.depth > 0) this.#pumpClass(queue, nowMs, attempt);
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
      this.cancel(waiter);
      waiter.refuse(this.#expiry(waiter, queue, nowMs));
    }
  }

  /** Refuses everyone, as when the engine stops. */
  clear(denial: Denial): void {
    for (const queue of this.#classes) {
      for (const lane of queue.lanes.values()) {
        for (let waiter = lane.pop(); waiter !== undefined; waiter = lane.pop()) {
          if (waiter.settled) continue;
          this.#settle(waiter);
          waiter.refuse(denial);
        }
      }
      queue.lanes.clear();
    }
  }

  #pumpClass(queue: ClassQueue, nowMs: number, attempt: (waiter: Waiter) => Attempted): void {
    for (const [key, lane] of queue.lanes) {
      for (;;) {
        const waiter = headOf(lane);
        if (waiter === undefined) {
          queue.lanes.delete(key);
          break;
        }
        if (attempt(waiter) === "blocked") break;
        lane.pop();
        this.#settle(waiter);
        this.#paceUp(queue, nowMs);
      }
    }
  }

  #settle(waiter: Waiter): void {
    waiter.settled = true;
    this.#queue(waiter.resolved.class).depth -= 1;
  }

  #expiry(waiter: Waiter, queue: ClassQueue, nowMs: number): Denial {
    const waitedS = Math.ceil((nowMs - waiter.arrivedMs) / 1_000);
    if (waiter.arrivedMs + waiter.resolved.deadlineMs <= nowMs) {
      return deny("DEADLINE_EXCEEDED", `The deadline passed after ${waitedS} s in the ${queue.name} queue`);
    }
    return deny("QUEUE_FULL", `No backend had room within ${waitedS} s`, { retryAfterMs: this.#retryAfterMs(queue, nowMs) });
  }

  #queue(name: SchedulingClass): ClassQueue {
    return this.#classes[CLASSES.indexOf(name)]!;
  }

  #limits(name: SchedulingClass): { readonly queueMax: number; readonly maxWaitMs: number } {
    return name === "system" ? SYSTEM_QUEUE : this.#config[name];
  }

  #lane(queue: ClassQueue, resolved: Resolved): Heap<Waiter> {
    const key = laneOf(resolved);
    let lane = queue.lanes.get(key);
    if (lane === undefined) queue.lanes.set(key, (lane = new Heap<Waiter>(isDueBefore)));
    return lane;
  }

  /** Forgets a lane nobody waits in any more. */
  #trim(queue: ClassQueue, resolved: Resolved): void {
    const key = laneOf(resolved);
    const lane = queue.lanes.get(key);
    if (lane !== undefined && headOf(lane) === undefined) queue.lanes.delete(key);
  }

  #paceUp(queue: ClassQueue, nowMs: number): void {
    queue.pace = this.#paceOf(queue, nowMs) + 1_000 / PACE_TAU_MS;
    queue.pacedAtMs = nowMs;
  }

  #paceOf(queue: ClassQueue, nowMs: number): number {
    return queue.pace * Math.exp((queue.pacedAtMs - nowMs) / PACE_TAU_MS);
  }

  #predictedWaitMs(queue: ClassQueue, nowMs: number): number {
    const pace = this.#paceOf(queue, nowMs);
    return pace < PACE_MIN_PER_S ? 0 : (queue.depth / pace) * 1_000;
  }

  #retryAfterMs(queue: ClassQueue, nowMs: number): number {
    const pace = Math.max(PACE_MIN_PER_S, this.#paceOf(queue, nowMs));
    return Math.ceil(Math.min(RETRY_AFTER_MAX_MS, Math.max(RETRY_AFTER_MIN_MS, (queue.depth / pace) * 1_000)));
  }
}

function isDueBefore(a: Waiter, b: Waiter): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);
}

function headOf(lane: Heap<Waiter>): Waiter | undefined {
  let head = lane.peek();
  while (head?.settled) {
    lane.pop();
    head = lane.peek();
  }
  return head;
}

function laneOf(resolved: Resolved): string {
  return `${resolved.model.name}\n${resolved.needs}\n${resolved.rule?.name ?? ""}`;
}
