import type { Clock, Timer } from "#libs/clock/index.ts";
import type { LedgerPeer, PriceBook } from "./ledger.ts";

/** How often a process that lacks what it needs from a peer asks for it, ms: until then it answers worse, or not at all. */
const ASK_AGAIN_MS = 250;

/** How long a new process without it counts as unready, ms: a peer that starts with it is there by then, and one that is away must not keep it shut. */
export const AWAITED_MS = 10_000;

/** Readiness, as a module's checks give it. */
export interface AnswerStatus {
  readonly state: "ok" | "degraded" | "failed";
  readonly detail?: string;
}

/** Readiness of a process that has waited for something since `sinceMs` (monotonic): unready for ten seconds, degraded from then on. */
export function lacking(detail: string, clock: Clock, sinceMs: number): AnswerStatus {
  return { state: clock.monotonicMs() - sinceMs < AWAITED_MS ? "failed" : "degraded", detail };
}

/** What is asked for. */
export interface Question {
  /** Said of a process without an answer, e.g. `no price book yet`. */
  readonly missing: string;
  /** Whether it is known, by an answer or pushed over the bus: then nobody asks any more. */
  answered(): boolean;
  /** Asks a peer and takes the answer over; rejects when the peer does not answer, or with something of no use. */
  ask(): Promise<void>;
  /** The question or the answer failed. Absent = `ask` sees to that itself. */
  failed?(cause: unknown): void;
}

/** Asks a peer for what a new process cannot do without until it is known; what changes later is pushed. */
export class FirstAnswer {
  readonly #clock: Clock;
  readonly #question: Question;
  #timer: Timer | undefined;
  #asking = false;
  #startedMs = Number.POSITIVE_INFINITY;

  constructor(clock: Clock, question: Question) {
    this.#clock = clock;
    this.#question = question;
  }

  /** Without an answer the process is unready as long as one is still waited for, and degraded from then on. */
  status(): AnswerStatus {
    return this.#question.answered() ? { state: "ok" } : lacking(this.#question.missing, this.#clock, this.#startedMs);
  }

  /** Asks, and goes on until there is an answer. Resolves when the first question is over, answered or not; never rejects. */
  start(): Promise<void> {
    this.#startedMs = this.#clock.monotonicMs();
    this.#timer = this.#clock.every(ASK_AGAIN_MS, () => void this.#ask());
    return this.#ask();
  }

  stop(): void {
    this.#timer?.cancel();
  }

  async #ask(): Promise<void> {
    if (this.#question.answered()) return this.stop();
    if (this.#asking) return;
    this.#asking = true;
    try {
      await this.#question.ask();
    } catch (cause) {
      this.#question.failed?.(cause);
    } finally {
      this.#asking = false;
    }
  }
}

/** Who needs prices. */
export interface PricesOwner {
  readonly clock: Clock;
  readonly ledger: LedgerPeer;
  /** Whether there is a book, from the ledger or pushed. */
  readonly loaded: () => boolean;
  /** Takes over what the ledger answered. */
  readonly adopt: (book: PriceBook) => void;
  /** The ledger did not answer, or its book cannot be taken over. */
  readonly failed: (cause: unknown) => void;
}

/** Asks the ledger for the first price book. */
export function firstPrices({ clock, ledger, loaded, adopt, failed }: PricesOwner): FirstAnswer {
  return new FirstAnswer(clock, {
    missing: "no price book yet",
    answered: loaded,
    ask: async () => {
      const book = await ledger.priceBook();
      // One that was pushed meanwhile is not older.
      if (!loaded()) adopt(book);
    },
    failed,
  });
}
