import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ScenarioResult } from "../scenario.ts";

/** A scenario's result with when and how it was run. */
export interface StoredResult extends ScenarioResult {
  readonly id: string;
  readonly title: string;
  /** Processor time it took, s. */
  readonly cpuS: number;
  readonly quick: boolean;
  readonly seeds: number;
}

/** Everything run so far, by scenario. */
export type Results = Readonly<Record<string, StoredResult>>;

const FILE = "results.json";

/** Results of earlier runs; none when there is no file. Throws when the file is no JSON. */
export function readResults(folder: string): Results {
  const file = join(folder, FILE);
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Results) : {};
}

/** Writes results, report and plots. */
export function writeReport(folder: string, results: Results, markdown: string, plots: ReadonlyMap<string, string>): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, FILE), `${JSON.stringify(results, undefined, 1)}\n`);
  writeFileSync(join(folder, "README.md"), markdown);
  for (const [file, svg] of plots) writeFileSync(join(folder, `${file}.svg`), svg);
}
