import { Fairness } from "./fairness.ts";
import { Heap } from "./heap.ts";
import { accountOf, type Denial, type Resolved, type SchedulingClass } from "./resolve.ts";

/** A request that waits. */
export interface Waiter {
  readonly resolved: Resolved;
  readonly arrivedMs: number;
  /** When its first token is due; what it is ordered by among its tenant's. */
  readonly dueMs: number;
  /** When it is given up. */
  readonly expiresMs: number;
  readonly order: number;
  /** Called once with why it will not go; dispatching answers it otherwise. */
  readonly refuse: (denial: Denial) => void;
  settled: boolean;
  /** It can no longer be on time and goes behind those that can; age brings it forward again. */
  late: boolean;
}

/** What trying to dispatch a waiter came to; held = there is room, but not for its tenant. */
export type Attempted = "settled" | "blocked" | "held";

/** Time constant of the pace and of the tokens served, ms. */
const PACE_TAU_MS = 10_000;
const SERVED_TAU_MS = 60_000;

/** Share of all dispatches that may be promotions of a class's oldest: enough to end every wait, too few to turn the order round. */
const PROMOTION_SHARE = 0.1;

/** Tenants passed over in one look at a lane because there is no room for them in particular. */
const HELD_MAX = 8;

/** Waiters of one kind by tenant: same model, same needs. One that cannot go holds back only those like it. */
type Lane = Map<string, Heap<Waiter>>;

/** The queue of one class. */
export class ClassQueue {
  readonly name: SchedulingClass;
  readonly fairness = new Fairness();
  readonly #lanes = new Map<string, Lane>();
  readonly #arrivals = new Heap<Waiter>((a, b) => a.order < b.order);
  readonly #waiting = new Map<string, number>();
  #depth = 0;
  #pace = 0;
  #pacedAtMs = 0;
  #served = 0;
  #servedAtMs = 0;
  #promotions = 1;

  constructor(name: SchedulingClass) {
    this.name = name;
  }

  get depth(): number {
    return this.#depth;
  }

  /** Whether someone like `resolved` waits here. */
  hasLane(resolved: Resolved): boolean {
    return this.#depth > 0 && this.#lanes.has(laneOf(resolved));
  }

  add(waiter: Waiter, nowMs: number): void {
    const tenant = accountOf(waiter.resolved.request);
    const waiting = this.#waiting.get(tenant) ?? 0;
    if (waiting === 0) this.fairness.lift(tenant, this.#leastServed(nowMs), nowMs);
    this.#waiting.set(tenant, waiting + 1);
    const key = laneOf(waiter.resolved);
    let lane = this.#lanes.get(key);
    if (lane === undefined) this.#lanes.set(key, (lane = new Map<string, Heap<Waiter>>()));
    let line = lane.get(tenant);
    if (line === undefined) lane.set(tenant, (line = new Heap<Waiter>(isDueBefore)));
    line.push(waiter);
    this.#arrivals.push(waiter);
    this.#depth += 1;
  }

  /** Marks a waiter as no longer waiting; its places are cleared when they are next looked at. */
  settle(waiter: Waiter): void {
    if (waiter.settled) return;
    waiter.settled = true;
    this.#depth -= 1;
    const tenant = accountOf(waiter.resolved.request);
    const left = (this.#waiting.get(tenant) ?? 1) - 1;
    if (left > 0) this.#waiting.set(tenant, left);
    else this.#waiting.delete(tenant);
    const key = laneOf(waiter.resolved);
    const lane = this.#lanes.get(key);
    if (lane !== undefined && this.#headOf(lane, 0) === undefined) this.#lanes.delete(key);
  }

  /** Whether it is the first of its lane. */
  isNext(waiter: Waiter, nowMs: number): boolean {
    const lane = this.#lanes.get(laneOf(waiter.resolved));
    return lane !== undefined && this.#headOf(lane, nowMs) === waiter;
  }

  /** The latest waiter of the tenant with the most in the queue, if that is another than `tenant` with more than it. */
  pushOut(tenant: string): Waiter | undefined {
    let most = (this.#waiting.get(tenant) ?? 0) + 1;
    let whose: string | undefined;
    for (const [name, count] of this.#waiting) {
      if (count <= most) continue;
      most = count;
      whose = name;
    }
    let last: Waiter | undefined;
    if (whose === undefined) return last;
    for (const lane of this.#lanes.values()) {
      for (const waiter of lane.get(whose)?.items() ?? [])
        if (!waiter.settled && (last === undefined || waiter.order > last.order)) last = waiter;
    }
    return last;
  }

  /** Whoever has waited longest. */
  oldest(): Waiter | undefined {
    return firstUnsettled(this.#arrivals);
  }

  /** Offers each lane's next until it is blocked, or until `most` were settled. Returns how many were. */
  offer(nowMs: number, most: number, attempt: (waiter: Waiter) => Attempted): number {
    let settled = 0;
    for (const lane of this.#lanes.values()) {
      let held: Set<string> | undefined;
      while (settled < most) {
        const waiter = this.#headOf(lane, nowMs, held);
        const came = waiter === undefined ? "blocked" : attempt(waiter);
        if (waiter === undefined || came === "blocked") break;
        if (came === "held") {
          held ??= new Set();
          if (held.size >= HELD_MAX) break;
          held.add(accountOf(waiter.resolved.request));
          continue;
        }
        this.settle(waiter);
        this.paceUp(nowMs);
        settled += 1;
      }
    }
    return settled;
  }

  /** Takes one promotion, if one was earned. */
  takePromotion(): boolean {
    if (this.#promotions < 1) return false;
    this.#promotions -= 1;
    return true;
  }

  /** Some request, of whatever class, was dispatched: promotions are a share of that. */
  earnPromotion(): void {
    this.#promotions = Math.min(1, this.#promotions + PROMOTION_SHARE);
  }

  /** Weighted tokens of a dispatch of this class. */
  serve(weightedTokens: number, nowMs: number): void {
    this.#served = this.servedTokens(nowMs) + weightedTokens;
    this.#servedAtMs = nowMs;
  }

  /** Weighted tokens dispatched over the last minute, fading. */
  servedTokens(nowMs: number): number {
    return this.#served * Math.exp((this.#servedAtMs - nowMs) / SERVED_TAU_MS);
  }

  /** A waiter was dispatched. */
  paceUp(nowMs: number): void {
    this.#pace = this.pace(nowMs) + 1_000 / PACE_TAU_MS;
    this.#pacedAtMs = nowMs;
  }

  /** Waiters dispatched a second, lately. */
  pace(nowMs: number): number {
    return this.#pace * Math.exp((this.#pacedAtMs - nowMs) / PACE_TAU_MS);
  }

  /** Everyone that waits. */
  *waiters(): Generator<Waiter> {
    for (let waiter = this.oldest(); waiter !== undefined; waiter = this.oldest()) yield waiter;
  }

  /** The earliest due of the tenant served least. A scan: tenants that wait at once are few. */
  #headOf(lane: Lane, nowMs: number, without?: ReadonlySet<string>): Waiter | undefined {
    let best: Waiter | undefined;
    let least = Number.POSITIVE_INFINITY;
    for (const [tenant, line] of lane) {
      if (without?.has(tenant)) continue;
      let head = firstUnsettled(line);
      while (head !== undefined && !head.late && isLate(head, nowMs)) {
        line.pop();
        head.late = true;
        line.push(head);
        head = firstUnsettled(line);
      }
      if (head === undefined) {
        lane.delete(tenant);
        continue;
      }
      const served = lane.size === 1 ? 0 : this.fairness.served(tenant, nowMs);
      if (served < least || (served === least && best !== undefined && isDueBefore(head, best))) {
        best = head;
        least = served;
      }
    }
    return best;
  }

  #leastServed(nowMs: number): number {
    let least = Number.POSITIVE_INFINITY;
    for (const tenant of this.#waiting.keys()) least = Math.min(least, this.fairness.served(tenant, nowMs));
    return least === Number.POSITIVE_INFINITY ? this.fairness.lastServed(nowMs) : least;
  }
}

/** Share of its target that a first token takes from dispatch: whoever has less time left can no longer be on time. */
const LATE_SHARE = 0.5;

function isLate({ dueMs, resolved }: Waiter, nowMs: number): boolean {
  return dueMs - LATE_SHARE * resolved.ttftTargetMs <= nowMs;
}

function isDueBefore(a: Waiter, b: Waiter): boolean {
  if (a.late !== b.late) return b.late;
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);
}

function firstUnsettled(heap: Heap<Waiter>): Waiter | undefined {
  let head = heap.peek();
  while (head?.settled) {
    heap.pop();
    head = heap.peek();
  }
  return head;
}

function laneOf(resolved: Resolved): string {
  return `${resolved.model.name}\n${resolved.needs}\n${resolved.rule?.name ?? ""}`;
}
