import type { CancelReason } from "#libs/peers/index.ts";
import type { Attempt } from "./attempt.ts";

/** All attempts of one request, in the order they were made. */
export class Attempts {
  readonly all: Attempt[] = [];
  /** Those whose end has not come. */
  open = 0;

  add(attempt: Attempt): void {
    this.all.push(attempt);
    this.open++;
  }

  get latest(): Attempt | undefined {
    return this.all.at(-1);
  }

  /** Whether one that may still answer is running. */
  get hopeful(): boolean {
    return this.all.some((attempt) => !attempt.abandoned && attempt.result === undefined);
  }

  get hedged(): boolean {
    return this.all.some((attempt) => attempt.hedge);
  }

  /** Ends every attempt that still runs beside the one that answers. */
  dropOthers(winner: Attempt): void {
    for (const other of this.all) {
      if (other === winner || other.result !== undefined || other.abandoned) continue;
      other.abandoned = true;
      other.forget();
      other.cancel("hedge_lost");
    }
  }

  /** Ends all of them; their ends still follow. */
  cancel(reason: CancelReason): void {
    for (const attempt of this.all) {
      attempt.forget();
      attempt.cancel(reason);
    }
  }

  /** The request is over: what was collected of their answers is nobody's here any more. */
  release(): void {
    for (const attempt of this.all) attempt.collected?.release();
  }

  /** What all of them came to, nano-USD. */
  get costNanoUsd(): bigint {
    let sum = 0n;
    for (const attempt of this.all) sum += attempt.settlement?.costNanoUsd ?? 0n;
    return sum;
  }

  /** Whether one of them used something without a price: then nobody knows what they came to. */
  get unpriced(): boolean {
    return this.all.some((attempt) => attempt.settlement?.unpriced === true);
  }
}
