import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { readFileSync } from "node:fs";
import { PriceBookSchema, type PriceBook } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { EventBus } from "#libs/bus/bus.ts";
import { SUBJECTS } from "#libs/bus/subjects.ts";
import type { Clock } from "#libs/clock/index.ts";
import type { Config } from "#libs/config/model.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { compilePriceBook, type PriceIndex } from "#libs/money/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import { buildPriceBook, parsePriceFile } from "./price-book/index.ts";
import type { PricePeriod } from "./price-periods.ts";
import type { LedgerStore } from "./store.ts";

/** Compiled books of earlier versions, for records that were admitted under them. */
const VERSIONS_MAX = 64;

/** What the publisher needs. */
export interface PricePublisherDeps {
  readonly store: LedgerStore;
  readonly bus: EventBus;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The price book in force: built from the configuration, pushed to everybody, kept by version. */
export class PricePublisher {
  readonly #deps: PricePublisherDeps;
  readonly #versions = new Map<string, PriceIndex>();
  #book: PriceBook | undefined;
  #index: PriceIndex | undefined;
  /** When the book in force was loaded, ms since the epoch, and whether the store knows. */
  #loadedAtMs = 0;
  #saved = false;
  /** Why the last rebuild was refused; undefined when it was not. */
  refused: string | undefined;

  constructor(deps: PricePublisherDeps) {
    this.#deps = deps;
  }

  get book(): PriceBook | undefined {
    return this.#book;
  }

  /** The book in force, compiled. */
  get index(): PriceIndex | undefined {
    return this.#index;
  }

  /** Backends the book has no price for. */
  get unpriced(): readonly string[] {
    return this.#book?.lines.filter(({ grade }) => grade === "unknown").map(({ backend }) => backend) ?? [];
  }

  /** Builds the book of a configuration. A source that cannot be read refuses the whole: the old book stays, and an error is logged. Throws only when there is no old one. */
  rebuild(config: Config): void {
    const { logger } = this.#deps;
    try {
      const files = config.prices.files.map((path) => parsePriceFile(path, readPriceFile(path)));
      const { book, warnings } = buildPriceBook(config, files);
      this.#index = compilePriceBook(book);
      if (this.#book?.version !== book.version) {
        this.#loadedAtMs = this.#deps.clock.now();
        this.#saved = false;
      }
      this.#keep(book.version, this.#index);
      this.#book = book;
      this.refused = undefined;
      for (const warning of warnings) logger.warn({ price_version: book.version }, warning);
    } catch (error) {
      this.refused = error instanceof Error ? error.message : String(error);
      if (this.#book === undefined) throw error;
      logger.error({ error: this.refused, kept: this.#book.version }, "the price book was refused; the last good one stays");
    }
  }

  /** Pushes the book. */
  publish(): void {
    if (this.#book) this.#deps.bus.publish(SUBJECTS.pricePublished, toBinary(PriceBookSchema, this.#book));
  }

  /** Keeps the book in the store under its version, and since when it has been in force. Once: another ledger may have loaded a later one since. */
  async save(): Promise<void> {
    const book = this.#book;
    if (book === undefined || this.#saved) return;
    await this.#deps.store.savePriceBook(book.version, toBinary(PriceBookSchema, book), this.#loadedAtMs);
    if (this.#book === book) this.#saved = true;
  }

  /** The books in force from a moment on, oldest first; one that cannot be found any more is left out. */
  async periods(fromMs: number): Promise<readonly PricePeriod[]> {
    const periods: PricePeriod[] = [];
    for (const { sinceMs, version } of await this.#deps.store.pricePeriods(fromMs)) {
      const index = await this.versioned(version);
      if (index) periods.push({ sinceMs, index });
    }
    if (this.#index && !this.#saved) periods.push({ sinceMs: this.#loadedAtMs, index: this.#index });
    return periods;
  }

  /**
   * The compiled book of a version, from memory or from the store; undefined when this ledger never saw it. No version at all is an
   * attempt whose ingress had no prices yet: the book in force prices it, so that it is not booked as free.
   */
  async versioned(version: string): Promise<PriceIndex | undefined> {
    if (version === "") return this.#index;
    const known = this.#versions.get(version);
    if (known) return known;
    const stored = await this.#deps.store.priceBook(version);
    if (stored === undefined) return undefined;
    const index = compilePriceBook(fromBinary(PriceBookSchema, stored));
    this.#keep(version, index);
    return index;
  }

  #keep(version: string, index: PriceIndex): void {
    this.#versions.set(version, index);
    if (this.#versions.size > VERSIONS_MAX) for (const oldest of this.#versions.keys()) return void this.#versions.delete(oldest);
  }
}

function readPriceFile(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new SignalboxError("REQUEST_MALFORMED", `price file ${path} cannot be read: ${String(cause)}`, { cause });
  }
}
