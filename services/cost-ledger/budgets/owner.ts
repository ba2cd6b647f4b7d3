/** A slice of a budget, held by one ingress. Every amount in nano-USD. */
export interface Grant {
  /** Added to what the holder may reserve from; 0 = nothing is left now. */
  readonly granted: bigint;
  /** True when others hold unused money that has been called back: asking again soon may help. */
  readonly recalled: boolean;
}

interface Holder {
  /** Granted and not yet spent or returned. */
  outstanding: bigint;
  seenAtMs: number;
  wanted: boolean;
}

/** A holder not heard of for this long is dead. What it held counts as spent until its outbox has been read. */
export const HOLDER_DEAD_MS = 30_000;

/**
 * One hard budget in one window, at its owner: spent + outstanding never exceeds the amount, so reservations made from
 * grants can never overspend it, whatever happens to their holders. No clock, no I/O.
 */
export class BudgetOwner {
  readonly #amount: bigint;
  readonly #holders = new Map<string, Holder>();
  #spent: bigint;

  /** `spent` is what the ledger has booked in the window already. */
  constructor(amount: bigint, spent: bigint) {
    this.#amount = amount;
    this.#spent = spent;
  }

  /** Settled money, that of dead holders included. */
  get spent(): bigint {
    return this.#spent;
  }

  get outstanding(): bigint {
    let sum = 0n;
    for (const holder of this.#holders.values()) sum += holder.outstanding;
    return sum;
  }

  /** What can still be granted; negative when entries turned out dearer than their reservations. */
  get available(): bigint {
    return this.#amount - this.#spent - this.outstanding;
  }

  /** Grants up to `want`; when less is left, the others are asked for what they do not use. */
  grant(holderId: string, want: bigint, nowMs: number): Grant {
    const holder = this.#holder(holderId, nowMs);
    const left = this.available;
    const granted = left <= 0n ? 0n : left < want ? left : want;
    holder.outstanding += granted;
    let recalled = false;
    if (granted < want) {
      for (const [id, other] of this.#holders) {
        if (id === holderId || other.outstanding === 0n) continue;
        other.wanted = true;
        recalled = true;
      }
    }
    return { granted, recalled };
  }

  /** A holder settled `spent` and gives `returned` back. True when it should give back all it does not use. */
  report(holderId: string, spent: bigint, returned: bigint, nowMs: number): boolean {
    const holder = this.#holder(holderId, nowMs);
    this.#spent += spent;
    holder.outstanding -= spent + returned;
    // Dearer than reserved: the difference is spent all the same, and shows as less available.
    if (holder.outstanding < 0n) holder.outstanding = 0n;
    const wanted = holder.wanted;
    holder.wanted = false;
    return wanted;
  }

  /** Takes dead holders' grants as spent. Their real costs arrive with their outboxes; `correct` then gives back the rest. */
  sweep(nowMs: number): readonly string[] {
    const dead: string[] = [];
    for (const [id, holder] of this.#holders) {
      if (nowMs - holder.seenAtMs < HOLDER_DEAD_MS) continue;
      this.#spent += holder.outstanding;
      this.#holders.delete(id);
      dead.push(id);
    }
    return dead;
  }

  /** Replaces the running sum by what the ledger has booked, once no dead holder's records are outstanding. */
  correct(booked: bigint): void {
    this.#spent = booked;
  }

  #holder(id: string, nowMs: number): Holder {
    let holder = this.#holders.get(id);
    if (holder === undefined) this.#holders.set(id, (holder = { outstanding: 0n, seenAtMs: nowMs, wanted: false }));
    holder.seenAtMs = nowMs;
    return holder;
  }
}
