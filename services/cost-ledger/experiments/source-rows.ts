import { mergeObservations, type SourceObservations, storedObservations } from "#libs/experiments/index.ts";

/** What one source saw of an experiment, as the store keeps it. */
export interface ObservationRow {
  readonly experiment: string;
  readonly source: string;
  /** Run of the experiment it belongs to. */
  readonly run: string;
  /** When it was last heard, ms since the epoch. */
  readonly atMs: number;
  /** JSON. */
  readonly state: string;
}

/** Sources of one experiment kept apart: every start of an engine is one. Beyond, the ones longest silent are added up into one. */
const SOURCES_MAX = 64;

/** A source silent for this long does not come back, ms: engines report every two seconds. */
const SILENT_MS = 3_600_000;

/** The source that silent ones were added up into. */
export const FOLDED_SOURCE = "#folded";

/** One source's observations with when they came. */
export interface Source {
  readonly atMs: number;
  readonly observations: SourceObservations;
}

/**
 * Adds up silent sources when there are too many. Returns the names that went into the common one, which the store forgets;
 * empty = nothing to do.
 */
export function foldSources(sources: Map<string, Source>, nowMs: number): readonly string[] {
  if (sources.size <= SOURCES_MAX) return [];
  const silent = [...sources].filter(([name, { atMs }]) => name !== FOLDED_SOURCE && nowMs - atMs > SILENT_MS).map(([name]) => name);
  if (silent.length === 0) return [];
  const revision = Math.max(...[...sources.values()].map(({ observations }) => observations.revision));
  const parts = [...silent, FOLDED_SOURCE].map((name) => sources.get(name)?.observations).filter((each) => each !== undefined);
  for (const name of silent) sources.delete(name);
  sources.set(FOLDED_SOURCE, { atMs: nowMs, observations: storedObservations(mergeObservations(parts, revision), revision) });
  return silent;
}

/** Reads stored observations; undefined when they are none. */
export function readObservations(state: string): SourceObservations | undefined {
  try {
    const value = JSON.parse(state) as Partial<SourceObservations> | null;
    return typeof value?.revision === "number" && typeof value.arms === "object" ? (value as SourceObservations) : undefined;
  } catch {
    return undefined;
  }
}
