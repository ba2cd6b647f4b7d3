import { createHash } from "node:crypto";
import { existsSync, globSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ScenarioResult } from "../scenario.ts";

/** A scenario's result with when and how it was run. */
export interface StoredResult extends ScenarioResult {
  readonly id: string;
  readonly title: string;
  /** Fingerprint of the router's sources that it was run with. */
  readonly sources: string;
  /** Processor time it took, s. */
  readonly cpuS: number;
  readonly quick: boolean;
  readonly seeds: number;
}

/** Everything run so far, by scenario. */
export type Results = Readonly<Record<string, StoredResult>>;

const FILE = "results.json";

/** What decides in the evaluation as in production; a change here may change every number. */
const ROUTER_SOURCES = ["services/policy-engine/**/*.ts", "services/health-monitor/**/*.ts", "libs/resilience/**/*.ts"];

/** Eight hex digits of a hash over the router's sources under `root`, tests left out: figures with another one are of another router. */
export function fingerprintOf(root: string): string {
  const hash = createHash("sha256");
  const files = globSync(ROUTER_SOURCES, { cwd: root }).filter((file) => !file.endsWith(".test.ts"));
  for (const file of files.toSorted()) hash.update(file).update(readFileSync(join(root, file)));
  return hash.digest("hex").slice(0, 8);
}

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
