/** What one scrape says of an engine, summed over its ranks. */
export interface Scrape {
  readonly running: number;
  readonly waiting: number;
  /** Fullest rank, 0..1; -1 = not stated. */
  readonly kvUsage: number;
  /** Tokens; 0 = unknown. */
  readonly kvCapacityTokens: number;
  /** Counter; -1 = not stated. */
  readonly preemptions: number;
  /** A counter that only falls when the engine starts anew; -1 = none. */
  readonly generation: number;
  /** Models in memory, where the engine says; empty = not stated. */
  readonly loadedModels: readonly string[];
}

/** Reads an engine's answer; undefined when it holds none of the engine's gauges. */
export type Scraper = (text: string) => Scrape | undefined;
