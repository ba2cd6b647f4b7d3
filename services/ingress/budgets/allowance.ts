import type { BudgetHolder } from "./holder.ts";
import type { Slice } from "./slice.ts";

/**
 * What one request may spend: the same amount reserved on every hard budget that applies to it. Each attempt takes its own
 * bound out of it and puts back what it did not cost; nano-USD.
 */
export class Allowance {
  readonly #holder: BudgetHolder;
  readonly #slices: readonly Slice[];
  readonly #onClose: (tokens: number) => void;
  readonly #running = new Map<string, bigint>();
  #covered: bigint;
  #inUse = 0n;
  #tokens = 0;
  #closed = false;

  /** `covered` is reserved on every hard one of `slices`. `onClose` is told the tokens used in all. */
  constructor(holder: BudgetHolder, slices: readonly Slice[], covered: bigint, onClose: (tokens: number) => void) {
    this.#holder = holder;
    this.#slices = slices;
    this.#covered = covered;
    this.#onClose = onClose;
  }

  /** An attempt that may cost up to `bound` is about to be dispatched; false when the budgets do not hold it. */
  begin(attemptId: string, bound: bigint): boolean {
    const missing = this.#inUse + bound - this.#covered;
    if (missing > 0n && !this.#topUp(missing)) return false;
    this.#running.set(attemptId, bound);
    this.#inUse += bound;
    return true;
  }

  /** It ended and cost `actual`; 0 when it was voided. */
  end(attemptId: string, actual: bigint, tokens: number): void {
    const bound = this.#running.get(attemptId) ?? 0n;
    this.#running.delete(attemptId);
    this.#inUse -= bound;
    this.#tokens += tokens;
    if (actual === 0n) return;
    const taken = actual < this.#covered ? actual : this.#covered;
    this.#covered -= taken;
    for (const slice of this.#slices) slice.settle(taken, actual);
  }

  /** The request is over: what it did not spend serves others. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#onClose(this.#tokens);
    for (const slice of this.#slices) {
      slice.settle(this.#covered, 0n);
      this.#holder.freed(slice);
    }
  }

  #topUp(missing: bigint): boolean {
    const hard = this.#slices.filter(({ spec }) => spec.mode === "hard");
    const got: Slice[] = [];
    for (const slice of hard) {
      if (slice.waiters.length === 0 && slice.lease.reserve(missing)) got.push(slice);
      else {
        for (const each of got) each.settle(missing, 0n);
        return false;
      }
    }
    this.#covered += missing;
    return true;
  }
}
