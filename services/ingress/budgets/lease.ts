/** What a holder tells the owner at its next report. */
export interface LeaseReport {
  /** Settled since the last report, nano-USD. */
  readonly spent: bigint;
  /** Given back, nano-USD. */
  readonly returned: bigint;
}

/**
 * An ingress's slice of one hard budget. Each attempt reserves the most it can cost before its bytes go upstream and
 * settles what it did cost; the difference serves the next one. No clock, no I/O.
 */
export class BudgetLease {
  #free = 0n;
  #reserved = 0n;
  #spent = 0n;

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

  /** Takes `bound` for an attempt; false when the slice does not hold it: ask the owner for `missing(bound)`, or refuse. */
  reserve(bound: bigint): boolean {
    if (bound > this.#free) return false;
    this.#free -= bound;
    this.#reserved += bound;
    return true;
  }

  /** What is lacking for `bound`. */
  missing(bound: bigint): bigint {
    return bound > this.#free ? bound - this.#free : 0n;
  }

  /** An attempt that reserved `bound` ended and cost `actual`; 0 when it was voided. */
  settle(bound: bigint, actual: bigint): void {
    this.#reserved -= bound;
    this.#free += bound - actual;
    this.#spent += actual;
  }

  /** What to report: everything settled, and what exceeds `keep` given back. */
  report(keep: bigint): LeaseReport {
    const returned = this.#free > keep ? this.#free - keep : 0n;
    const spent = this.#spent;
    this.#free -= returned;
    this.#spent = 0n;
    return { spent, returned };
  }
}
