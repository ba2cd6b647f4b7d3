/**
 * An ingress's slice of one hard budget. Each attempt reserves the most it can cost before its bytes go upstream and
 * settles what it did cost; the difference serves the next one. Nano-USD. No clock, no I/O.
 */
export class BudgetLease {
  #free = 0n;
  #reserved = 0n;

  /** Can be reserved now. */
  get free(): bigint {
    return this.#free;
  }

  /** Held by attempts in flight. */
  get reserved(): bigint {
    return this.#reserved;
  }

  /** The owner granted more. */
  add(granted: bigint): void {
    this.#free += granted;
  }

  /** Takes `bound` for an attempt; false when the slice does not hold it. */
  reserve(bound: bigint): boolean {
    if (bound > this.#free) return false;
    this.#free -= bound;
    this.#reserved += bound;
    return true;
  }

  /** An attempt that reserved `bound` ended and cost `actual`; 0 when it was voided. One that was dearer than its bound takes the difference from what is free. */
  settle(bound: bigint, actual: bigint): void {
    this.#reserved -= bound;
    this.#free += bound - actual;
    if (this.#free < 0n) this.#free = 0n;
  }

  /** What is not reserved is the owner's again. */
  giveBack(): void {
    this.#free = 0n;
  }
}
