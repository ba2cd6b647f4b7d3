/** An ingress that holds slices of a budget. Every amount in nano-USD. */
interface Holder {
  /** What it has settled in the window, all in all. */
  spentTotal: bigint;
  /** Granted and not settled. */
  held: bigint;
  /** Of its last call: an older one that arrives late is ignored. */
  sequence: bigint;
  seenAtMs: number;
  /** Whether it is to give back what it has not reserved. */
  recalled: boolean;
}

/** What a holder says and wants. */
export interface Ask {
  readonly holder: string;
  readonly sequence: bigint;
  readonly spentTotal: bigint;
  readonly held: bigint;
  readonly want: bigint;
  /** The least that helps. */
  readonly need: bigint;
}

/** What it gets. */
export interface Granted {
  readonly granted: bigint;
  readonly recall: boolean;
  /** What a reservation could still be made from if all that is held were given back. */
  readonly left: bigint;
}

/** A holder not heard of for this long is silent: nobody waits for what it holds. Holders report every second. */
export const HOLDER_SILENT_MS = 5_000;
/**
 * After this a silent holder is dead. By then its successor has long sent the outbox it left, so what it really spent is booked
 * and the rest of what it held is free again.
 */
export const HOLDER_DEAD_MS = 600_000;
/** A slice is at most this part of what is available, per holder: the nearer the limit, the smaller. */
const SLICE_PARTS = 8n;

/**
 * One budget in one window: settled + held never exceeds the amount, so reservations made from grants can never overspend it,
 * whatever happens to their holders. No clock, no I/O; `encode` and `decode` are what the store keeps.
 */
export class BudgetOwner {
  readonly #holders = new Map<string, Holder>();
  #spent: bigint;
  /** What was booked before any holder counted, and since when one does, ms since the epoch; 0 = settled for good. */
  #base: bigint;
  #baseUntilMs: number;
  #alerted: number[] = [];

  /** `spent` is what the ledger has booked in the window of attempts that began before `untilMs`: what began later holders report. */
  constructor(spent: bigint, untilMs = 0) {
    this.#spent = spent;
    this.#base = spent;
    this.#baseUntilMs = untilMs;
  }

  /** Until when what is booked is counted besides what holders report, ms since the epoch; a holder that counts since before moves it. */
  get baseUntilMs(): number {
    return this.#baseUntilMs;
  }

  /** Takes `base` for what was booked before `untilMs`. */
  rebase(base: bigint, untilMs: number): void {
    this.#spent += base - this.#base;
    this.#base = base;
    this.#baseUntilMs = untilMs;
  }

  /** The state as text. */
  encode(): string {
    const holders = [...this.#holders].map(([id, holder]) => [
      id,
      String(holder.spentTotal),
      String(holder.held),
      String(holder.sequence),
      holder.seenAtMs,
      holder.recalled,
    ]);
    const base = [String(this.#base), this.#baseUntilMs];
    return JSON.stringify({ spent: String(this.#spent), base, holders, alerted: this.#alerted });
  }

  /** The state again. */
  static decode(text: string): BudgetOwner {
    const { spent, base, holders, alerted } = JSON.parse(text) as {
      spent: string;
      base?: [string, number];
      holders: [string, string, string, string, number, boolean][];
      alerted: number[];
    };
    const owner = new BudgetOwner(BigInt(spent));
    if (base !== undefined) [owner.#base, owner.#baseUntilMs] = [BigInt(base[0]), base[1]];
    owner.#alerted = alerted;
    for (const [id, spentTotal, held, sequence, seenAtMs, recalled] of holders)
      owner.#holders.set(id, { spentTotal: BigInt(spentTotal), held: BigInt(held), sequence: BigInt(sequence), seenAtMs, recalled });
    return owner;
  }

  /** Settled money. */
  get spent(): bigint {
    return this.#spent;
  }

  /** Held by ingresses, reserved or not. */
  get held(): bigint {
    let sum = 0n;
    for (const holder of this.#holders.values()) sum += holder.held;
    return sum;
  }

  /** Whether holders are there that have been silent for long enough to be let go with {@link forget}. */
  hasDead(nowMs: number): boolean {
    for (const holder of this.#holders.values()) if (nowMs - holder.seenAtMs >= HOLDER_DEAD_MS) return true;
    return false;
  }

  /** Lets dead holders go; what they spent is in `booked` by now. */
  forget(booked: bigint, nowMs: number): void {
    for (const [id, holder] of this.#holders) if (nowMs - holder.seenAtMs >= HOLDER_DEAD_MS) this.#holders.delete(id);
    if (booked > this.#spent) this.#spent = booked;
    this.#baseUntilMs = 0;
  }

  /** Takes a report and grants what is wanted, whole or not at all below `need`; when it cannot, the others are to give back. */
  ask(ask: Ask, amount: bigint, nowMs: number): Granted {
    const holder = this.#holder(ask.holder, nowMs);
    if (ask.sequence < holder.sequence) return { granted: 0n, recall: false, left: amount - this.#spent };
    this.#spent += ask.spentTotal - holder.spentTotal;
    holder.spentTotal = ask.spentTotal;
    holder.held = ask.held;
    holder.sequence = ask.sequence;
    holder.seenAtMs = nowMs;
    const recall = holder.recalled;
    holder.recalled = false;
    const left = amount - this.#spent - this.#silentlyHeld(nowMs);
    let granted = 0n;
    if (ask.want > 0n) {
      granted = this.#slice(ask, amount, nowMs);
      holder.held += granted;
      if (granted === 0n) for (const [id, other] of this.#holders) if (id !== ask.holder && other.held > 0n) other.recalled = true;
    }
    return { granted, recall, left };
  }

  /** A holder leaves for good, having reported. */
  leave(holder: string): void {
    this.#holders.delete(holder);
  }

  /** Thresholds of `alert` reached and not yet told of; each is returned once. */
  newlyCrossed(alert: readonly number[], amount: bigint): readonly number[] {
    // Shares are compared in millionths: exact enough for percentages, and no float touches an amount.
    const crossed = alert.filter(
      (share) => !this.#alerted.includes(share) && this.#spent * 1_000_000n >= amount * BigInt(Math.round(share * 1e6)),
    );
    this.#alerted.push(...crossed);
    return crossed;
  }

  #slice(ask: Ask, amount: bigint, nowMs: number): bigint {
    const available = amount - this.#spent - this.held;
    if (available < ask.need || available <= 0n) return 0n;
    let live = 0n;
    for (const { seenAtMs } of this.#holders.values()) if (nowMs - seenAtMs < HOLDER_SILENT_MS) live++;
    const fair = available / (SLICE_PARTS * live);
    const wanted = ask.want < fair ? ask.want : fair;
    return wanted < ask.need ? ask.need : wanted;
  }

  #silentlyHeld(nowMs: number): bigint {
    let sum = 0n;
    for (const { held, seenAtMs } of this.#holders.values()) if (nowMs - seenAtMs >= HOLDER_SILENT_MS) sum += held;
    return sum;
  }

  #holder(id: string, nowMs: number): Holder {
    let holder = this.#holders.get(id);
    if (holder === undefined) {
      holder = { spentTotal: 0n, held: 0n, sequence: 0n, seenAtMs: nowMs, recalled: false };
      this.#holders.set(id, holder);
    }
    return holder;
  }
}
