import type { RunOutcome, RunSpec } from "./run.ts";
import type { Interval } from "./statistics.ts";
import type { Trace, TraceName } from "./trace.ts";

/** How much is run. */
export interface Effort {
  /** Fewer slices, rates and routers: about a minute in all. */
  readonly quick: boolean;
  /** Seeds per slice. */
  readonly seeds: number;
}

/** What a scenario works with. */
export interface ScenarioContext extends Effort {
  trace(name: TraceName): Trace;
  /** Runs one spec and counts it on the progress bar. */
  run(spec: RunSpec): Promise<RunOutcome>;
}

/** How a value is shown. `points` are percentage points; `share` is 0..1 shown as percent. */
export type Unit = "text" | "share" | "points" | "ms" | "s" | "usd" | "rate" | "count" | "ratio";

/** A value of a table; undefined = does not apply. */
export type Cell = string | number | Interval | undefined;

/** A table of a report. */
export interface Table {
  readonly title: string;
  readonly columns: readonly { readonly key: string; readonly label: string; readonly unit: Unit }[];
  readonly rows: readonly Readonly<Record<string, Cell>>[];
  readonly note?: string;
}

/** A point of a curve; `half` is the half width of its confidence interval. */
export interface Point {
  readonly x: number;
  readonly y: number;
  readonly half?: number;
}

/** Curves over one axis. */
export interface Plot {
  /** File name without its ending. */
  readonly file: string;
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  /** Whether y is a share, shown as percent. */
  readonly share: boolean;
  /** Whether x grows by factors. */
  readonly logX?: boolean;
  /** Least and largest y shown; by default what the points need. */
  readonly yRange?: readonly [number, number];
  readonly series: readonly { readonly name: string; readonly points: readonly Point[] }[];
}

/** A number held against its goal. */
export interface Check {
  readonly what: string;
  readonly goal: string;
  readonly value: string;
  readonly met: boolean;
}

/** What a scenario found. */
export interface ScenarioResult {
  readonly text: readonly string[];
  readonly tables: readonly Table[];
  readonly plots: readonly Plot[];
  readonly checks: readonly Check[];
}

/** One scenario of the plan (design: routing, section 2.3). */
export interface Scenario {
  readonly id: string;
  readonly title: string;
  /** Runs it will make, for the progress bar. */
  runs(effort: Effort): number;
  run(context: ScenarioContext): Promise<ScenarioResult>;
}
