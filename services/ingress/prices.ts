import { fromBinary } from "@bufbuild/protobuf";
import { type PriceBook, PriceBookSchema } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { EventBus, Subscription } from "#libs/bus/bus.ts";
import { SUBJECTS } from "#libs/bus/subjects.ts";
import type { Clock, Timer } from "#libs/clock/index.ts";
import { compilePriceBook, EMPTY_PRICE_INDEX, type PriceIndex } from "#libs/money/index.ts";
import type { LedgerPeer } from "#libs/peers/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import { START_WAIT_MS } from "./limits.ts";
import { withinMs } from "./within.ts";

/** How often an ingress without any price book asks the ledger for one, ms: what goes until it comes has no price. */
const ASK_AGAIN_MS = 250;

/** How long a new process without one counts as unready, ms: a ledger that starts with it is there by then, and one that is away must not keep it shut. */
const AWAITED_MS = 10_000;

/** The price book in force: asked for at the start, then pushed over the bus. */
export class Prices {
  readonly #bus: EventBus;
  readonly #ledger: LedgerPeer;
  readonly #clock: Clock;
  readonly #logger: Logger;
  #index: PriceIndex = EMPTY_PRICE_INDEX;
  #subscription: Subscription | undefined;
  #timer: Timer | undefined;
  #asking = false;
  #startedMs = Number.POSITIVE_INFINITY;

  constructor(bus: EventBus, ledger: LedgerPeer, clock: Clock, logger: Logger) {
    this.#bus = bus;
    this.#ledger = ledger;
    this.#clock = clock;
    this.#logger = logger;
  }

  /** Compiled for lookups; empty before the first book arrived. */
  get index(): PriceIndex {
    return this.#index;
  }

  get loaded(): boolean {
    return this.#index !== EMPTY_PRICE_INDEX;
  }

  /** Whether one is still waited for that starts with this process. */
  get awaited(): boolean {
    return !this.loaded && this.#clock.monotonicMs() - this.#startedMs < AWAITED_MS;
  }

  /** Subscribes and asks; never rejects, because a book may also arrive later. */
  async start(): Promise<void> {
    this.#startedMs = this.#clock.monotonicMs();
    this.#subscription = this.#bus.subscribe(SUBJECTS.pricePublished, (message) => this.#pushed(message.payload));
    this.#timer = this.#clock.every(ASK_AGAIN_MS, () => {
      if (!this.loaded) void this.#ask();
    });
    await withinMs(this.#clock, START_WAIT_MS, this.#ask());
  }

  stop(): void {
    this.#subscription?.close();
    this.#timer?.cancel();
  }

  async #ask(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    try {
      const book = await this.#ledger.priceBook();
      if (!this.loaded) this.#adopt(book);
    } catch (error) {
      this.#logger.debug({ err: error }, "the price book is not available yet");
    } finally {
      this.#asking = false;
    }
  }

  #pushed(payload: Uint8Array): void {
    try {
      this.#adopt(fromBinary(PriceBookSchema, payload));
    } catch (error) {
      this.#logger.warn({ err: error }, "a price book from the bus cannot be read");
    }
  }

  #adopt(book: PriceBook): void {
    if (book.version !== this.#index.version || !this.loaded) this.#index = compilePriceBook(book);
  }
}
