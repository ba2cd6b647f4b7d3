import { fromBinary } from "@bufbuild/protobuf";
import { type PriceBook, PriceBookSchema } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { EventBus, Subscription } from "#libs/bus/bus.ts";
import { SUBJECTS } from "#libs/bus/subjects.ts";
import type { Clock } from "#libs/clock/index.ts";
import { compilePriceBook, EMPTY_PRICE_INDEX, type PriceIndex } from "#libs/money/index.ts";
import { type AnswerStatus, type FirstAnswer, firstPrices, type LedgerPeer } from "#libs/peers/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import { START_WAIT_MS } from "./limits.ts";
import { withinMs } from "./within.ts";

/** The price book in force: asked for at the start, then pushed over the bus. */
export class Prices {
  readonly #bus: EventBus;
  readonly #clock: Clock;
  readonly #first: FirstAnswer;
  readonly #logger: Logger;
  #index: PriceIndex = EMPTY_PRICE_INDEX;
  #subscription: Subscription | undefined;

  constructor(bus: EventBus, ledger: LedgerPeer, clock: Clock, logger: Logger) {
    this.#bus = bus;
    this.#clock = clock;
    this.#logger = logger;
    this.#first = firstPrices({
      clock,
      ledger,
      loaded: () => this.loaded,
      adopt: (book) => this.#adopt(book),
      failed: (cause) => logger.debug({ err: cause }, "the price book is not available yet"),
    });
  }

  /** Compiled for lookups; empty before the first book arrived. */
  get index(): PriceIndex {
    return this.#index;
  }

  get loaded(): boolean {
    return this.#index !== EMPTY_PRICE_INDEX;
  }

  /** For readiness. */
  status(): AnswerStatus {
    return this.#first.status();
  }

  /** Subscribes and asks; never rejects, because a book may also arrive later. */
  async start(): Promise<void> {
    this.#subscription = this.#bus.subscribe(SUBJECTS.pricePublished, (message) => this.#pushed(message.payload));
    await withinMs(this.#clock, START_WAIT_MS, this.#first.start());
  }

  stop(): void {
    this.#subscription?.close();
    this.#first.stop();
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
