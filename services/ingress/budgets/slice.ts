import type { BudgetGrant } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import type { SignalboxError } from "#libs/errors/index.ts";
import type { BudgetSpec, BudgetWindow } from "#libs/money/index.ts";
import { BudgetLease } from "./lease.ts";

/** A request that waits for money. */
export interface Waiter {
  /** Nano-USD. */
  readonly bound: bigint;
  /** Monotonic ms. */
  readonly sinceMs: number;
  readonly done: (error: SignalboxError | undefined) => void;
}

/** What is wanted beyond the waiting requests' own need: so many more like the first, that the next ones need no call. */
const AHEAD = 16n;

/** One budget in one window as this ingress knows it. */
export class Slice {
  readonly spec: BudgetSpec;
  readonly window: BudgetWindow;
  /** When the first request asked for it, ms since the epoch. */
  readonly sinceMs: number;
  readonly lease = new BudgetLease();
  waiters: Waiter[] = [];
  /** Settled here in this window, nano-USD. */
  spentTotal = 0n;
  /** Whether anything was reserved since the last report. */
  used = false;
  /** The ledger wants what is not reserved. */
  recalled = false;
  /** Left in the whole budget when the ledger answered last; undefined = it has not. */
  left: bigint | undefined;
  #toldSpent = 0n;

  constructor(spec: BudgetSpec, window: BudgetWindow, sinceMs: number) {
    this.spec = spec;
    this.window = window;
    this.sinceMs = sinceMs;
  }

  get key(): string {
    return `${this.spec.id}@${this.window.id}`;
  }

  /** Whether `amount` could be had if everything reserved came free again. */
  isAffordable(amount: bigint): boolean {
    return this.left === undefined || this.left - (this.spentTotal - this.#toldSpent) >= amount;
  }

  /** Takes an answer to a report of `spentTotal`. */
  told(grant: BudgetGrant, spentTotal: bigint): void {
    this.lease.add(grant.granted);
    this.#toldSpent = spentTotal;
    this.recalled = grant.recall;
    // A budget the ledger does not know (yet) limits nothing it could tell of.
    this.left = grant.known ? grant.left : undefined;
  }

  /** A reservation of `bound` ended and cost `actual`. */
  settle(bound: bigint, actual: bigint): void {
    this.spentTotal += actual;
    if (this.spec.mode === "hard") this.lease.settle(bound, actual);
  }

  /** What to ask for. */
  wanted(): bigint {
    let sum = this.waiters[0]!.bound * AHEAD;
    for (const { bound } of this.waiters) sum += bound;
    return sum;
  }

  /** Takes out and returns the requests that have waited since before `sinceMs`. */
  waitingSince(sinceMs: number): readonly Waiter[] {
    return this.#takeOut(({ sinceMs: since }) => since <= sinceMs);
  }

  /** Takes out and returns the requests nothing can help any more. */
  unaffordable(): readonly Waiter[] {
    return this.#takeOut(({ bound }) => !this.isAffordable(bound));
  }

  /** Takes one out; false when it was not there. */
  remove(waiter: Waiter): boolean {
    return this.#takeOut((each) => each === waiter).length > 0;
  }

  /** Whether the window is past and everything of it is settled and reported. */
  isOver(nowMs: number, reported: bigint): boolean {
    const { lease, waiters, window } = this;
    return nowMs >= window.untilMs && waiters.length === 0 && lease.reserved === 0n && lease.free === 0n && this.spentTotal === reported;
  }

  #takeOut(matches: (waiter: Waiter) => boolean): readonly Waiter[] {
    if (!this.waiters.some(matches)) return [];
    const out = this.waiters.filter(matches);
    this.waiters = this.waiters.filter((waiter) => !out.includes(waiter));
    return out;
  }
}
