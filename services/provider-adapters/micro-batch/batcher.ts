import type { Clock, Timer } from "#libs/clock/index.ts";

/** Weight of the latest gap in the mean time between arrivals. */
const GAP_WEIGHT = 0.2;

/** Share of the time a batch would take to fill that is worth waiting (routing, 1.10.4). */
const WAIT_SHARE = 0.5;

/** What one call may hold. */
export interface BatchLimits {
  readonly maxItems: number;
  /** Estimated tokens. */
  readonly maxTokens: number;
}

/** What waits for a call. */
export interface Batchable {
  readonly items: number;
  readonly tokens: number;
  /** Longest it may wait for others, ms. */
  readonly maxWaitMs: number;
}

/**
 * Decides who shares a call. With nothing in flight nobody waits; otherwise members gather until a call returns, a batch is full,
 * or the adaptive wait is over. Holds no I/O: `send` makes the call and tells of its end by {@link returned}.
 */
export class Batcher<M extends Batchable> {
  readonly #limits: BatchLimits;
  readonly #clock: Clock;
  readonly #send: (members: readonly M[]) => boolean;
  readonly #stuck: () => void;
  #waiting: M[] = [];
  #items = 0;
  #tokens = 0;
  #calls = 0;
  #timer: Timer | undefined;
  #lastMs = Number.NEGATIVE_INFINITY;
  #gapMs = Number.POSITIVE_INFINITY;

  /** `send` answers false when the backend has no room; `stuck` hears when no call of ours will return: then somebody else must flush. */
  constructor(limits: BatchLimits, clock: Clock, send: (members: readonly M[]) => boolean, stuck: () => void) {
    this.#limits = limits;
    this.#clock = clock;
    this.#send = send;
    this.#stuck = stuck;
  }

  /** Calls that have not returned. */
  get calls(): number {
    return this.#calls;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Takes one more. May send before it returns. */
  add(member: M): void {
    this.#observe();
    this.#waiting.push(member);
    this.#items += member.items;
    this.#tokens += member.tokens;
    if (this.#calls === 0 || this.#isFull()) this.flush();
    else this.#arm(member);
  }

  /** Takes out one that waits; false when it was sent already. */
  remove(member: M): boolean {
    const at = this.#waiting.indexOf(member);
    if (at < 0) return false;
    this.#waiting.splice(at, 1);
    this.#items -= member.items;
    this.#tokens -= member.tokens;
    if (this.#waiting.length === 0) this.#disarm();
    return true;
  }

  /** A call began that was not sent from here (half of a bisected one). */
  began(): void {
    this.#calls++;
  }

  /** A call is over: those who waited for it go. */
  returned(): void {
    this.#calls--;
    this.flush();
  }

  /** Sends what waits, in calls within the limits. */
  flush(): void {
    this.#disarm();
    while (this.#waiting.length > 0) {
      const members = this.#take();
      if (this.#send(members)) {
        this.#calls++;
        continue;
      }
      // When somebody returns these go first.
      this.#waiting.unshift(...members);
      this.#items += itemsOf(members);
      this.#tokens += tokensOf(members);
      if (this.#calls === 0) this.#stuck();
      return;
    }
  }

  /** From the oldest, as many as one call holds; one at the least. */
  #take(): M[] {
    const { maxItems, maxTokens } = this.#limits;
    let items = 0;
    let tokens = 0;
    let count = 0;
    for (const member of this.#waiting) {
      if (count > 0 && (items + member.items > maxItems || tokens + member.tokens > maxTokens)) break;
      items += member.items;
      tokens += member.tokens;
      count++;
    }
    this.#items -= items;
    this.#tokens -= tokens;
    return this.#waiting.splice(0, count);
  }

  #isFull(): boolean {
    return this.#items >= this.#limits.maxItems || this.#tokens >= this.#limits.maxTokens;
  }

  #observe(): void {
    const nowMs = this.#clock.monotonicMs();
    const gapMs = nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    if (!Number.isFinite(gapMs)) return;
    this.#gapMs = Number.isFinite(this.#gapMs) ? this.#gapMs + GAP_WEIGHT * (gapMs - this.#gapMs) : gapMs;
  }

  /** The first to wait opens the window. */
  #arm(member: M): void {
    if (this.#timer !== undefined) return;
    const room = this.#limits.maxItems - this.#items;
    const waitMs = Math.min(member.maxWaitMs, WAIT_SHARE * this.#gapMs * room);
    this.#timer = this.#clock.after(Math.max(0, waitMs), () => {
      this.#timer = undefined;
      this.flush();
    });
  }

  #disarm(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }
}

function itemsOf(members: readonly Batchable[]): number {
  return members.reduce((sum, member) => sum + member.items, 0);
}

function tokensOf(members: readonly Batchable[]): number {
  return members.reduce((sum, member) => sum + member.tokens, 0);
}
