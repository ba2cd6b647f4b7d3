import type { Durability } from "./outbox.ts";

/**
 * Records in a group from which on the next write waits for company. Fewer, and the disk is quicker than they come: what somebody
 * waits for then goes at once, and all that comes while the disk is busy makes up the next group.
 */
const GATHER_FROM = 4;

/** How long a write may wait for company before its fdatasync, ms. */
const SYNC_DELAY_MS: Readonly<Record<Durability, number>> = { strict: 0, overlapped: 2, relaxed: 100 };

/** When the next fdatasync is due: many records share one, but no answer waits for company that does not come. */
export class GroupCommit {
  readonly #gatherMs: number;
  /** Records in the latest group. */
  #latest = 0;

  constructor(durability: Durability) {
    this.#gatherMs = SYNC_DELAY_MS[durability];
  }

  /** How long what was just written may wait, ms. */
  delayMs(isAwaited: boolean): number {
    return isAwaited && this.#latest < GATHER_FROM ? 0 : this.#gatherMs;
  }

  /** A group of so many records is durable. */
  synced(records: number): void {
    this.#latest = records;
  }
}
