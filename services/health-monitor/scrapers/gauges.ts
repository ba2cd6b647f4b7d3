import { labelOf, scanSamples } from "./metrics-text.ts";
import type { Scraper } from "./scrape.ts";

/** Names of one engine's metrics; where there are several, the first that is present counts and the later ones are older names. */
export interface GaugeNames {
  readonly running: readonly string[];
  readonly waiting: readonly string[];
  readonly kvUsage: readonly string[];
  /** A gauge of tokens. */
  readonly kvCapacity: readonly string[];
  /** An info metric with `block_size` and `num_gpu_blocks` as labels. */
  readonly kvBlocks: readonly string[];
  readonly preemptions: readonly string[];
  /** Counters of tokens made. */
  readonly generated: readonly string[];
}

interface Found {
  sum: number;
  most: number;
}

/** A scraper for engines that speak Prometheus. Ranks (data parallel) are summed, usage is the fullest rank's. */
export function gaugeScraper(names: GaugeNames): Scraper {
  const wanted = new Set(Object.values(names).flat() as readonly string[]);
  return (text) => {
    const found = new Map<string, Found>();
    let blockTokens = 0;
    scanSamples(text, wanted, (name, labels, value) => {
      if (names.kvBlocks.includes(name)) {
        blockTokens += Number(labelOf(labels, "block_size") ?? 0) * Number(labelOf(labels, "num_gpu_blocks") ?? 0) || 0;
        return;
      }
      const known = found.get(name);
      if (!known) found.set(name, { sum: value, most: value });
      else {
        known.sum += value;
        known.most = Math.max(known.most, value);
      }
    });
    const first = (candidates: readonly string[]): Found | undefined => candidates.map((name) => found.get(name)).find(Boolean);
    const running = first(names.running);
    const waiting = first(names.waiting);
    if (!running && !waiting) return undefined;
    return {
      running: running?.sum ?? 0,
      waiting: waiting?.sum ?? 0,
      kvUsage: first(names.kvUsage)?.most ?? -1,
      kvCapacityTokens: blockTokens > 0 ? blockTokens : (first(names.kvCapacity)?.sum ?? 0),
      preemptions: first(names.preemptions)?.sum ?? -1,
      generation: first(names.generated)?.sum ?? -1,
      loadedModels: [],
    };
  };
}
