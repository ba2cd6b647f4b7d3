/** Hedges that may be saved up. */
const SAVED_MAX = 10;

/** Keeps hedges a share of the requests that could have one: earned by each, spent by those started. */
export class HedgeBudget {
  #saved = 1;

  /** A request that could be hedged was decided. */
  earn(share: number): void {
    this.#saved = Math.min(SAVED_MAX, this.#saved + share);
  }

  /** A hedge was started. */
  spend(): void {
    this.#saved = Math.max(0, this.#saved - 1);
  }

  get isOpen(): boolean {
    return this.#saved >= 1;
  }
}
