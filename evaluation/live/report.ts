import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Score } from "../score.ts";
import { inversions, kendallTau } from "./ordering.ts";

/** One policy, measured over the mesh and computed in virtual time, on the same requests. */
export interface LiveRow {
  readonly policy: string;
  readonly live: Score;
  readonly virtual: Score;
  /** Answers that never came or broke off, live. */
  readonly errors: number;
  /** 99th percentile of how late the client sent a request, ms: what this machine's own load added to every time. */
  readonly lateP99Ms: number;
  /** Load average of the machine over the last minute, at the end of the run: what else wanted its processors. */
  readonly loadAverage: number;
  readonly date: string;
  readonly sources: string;
}

/** Everything measured, with what it was measured on. */
export interface LiveResults {
  readonly machine: string;
  readonly workload: string;
  readonly rows: readonly LiveRow[];
}

/** Differences of targets met that count as a tie: one request in a hundred is the noise of one run. */
const TIE_SHARE = 0.01;

/** Results of earlier runs of this workload on this machine; none when there are none, or of another. */
export function readLive(folder: string, machine: string, workload: string): LiveResults {
  const file = join(folder, "live.json");
  const none = { machine, workload, rows: [] };
  if (!existsSync(file)) return none;
  const stored = JSON.parse(readFileSync(file, "utf8")) as LiveResults;
  return stored.workload === workload && stored.machine === machine ? stored : none;
}

/** The results with one policy's row put in, the best live one first. */
export function withRow(results: LiveResults, row: LiveRow): LiveResults {
  const rows = [...results.rows.filter(({ policy }) => policy !== row.policy), row];
  return { ...results, rows: rows.toSorted((a, b) => b.live.attainment - a.live.attainment) };
}

/** Writes live.json and live.md. */
export function writeLive(folder: string, results: LiveResults): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "live.json"), `${JSON.stringify(results, undefined, 1)}\n`);
  writeFileSync(join(folder, "live.md"), markdownOf(results));
}

/** How both orderings compare, in lines. */
export function comparisonOf({ rows }: LiveResults): string[] {
  const live = rows.map((row) => row.live.attainment);
  const virtual = rows.map((row) => row.virtual.attainment);
  const swapped = inversions(live, virtual, TIE_SHARE).map(([a, b]) => `${rows[a]!.policy} and ${rows[b]!.policy}`);
  const byVirtual = rows.toSorted((a, b) => b.virtual.attainment - a.virtual.attainment);
  return [
    `Order over the mesh: ${rows.map(({ policy }) => policy).join(" > ")}`,
    `Order in virtual time: ${byVirtual.map(({ policy }) => policy).join(" > ")}`,
    `Kendall's tau-b of the two: ${kendallTau(live, virtual).toFixed(2)}; with differences up to one point as ties ${kendallTau(live, virtual, TIE_SHARE).toFixed(2)}`,
    `Pairs ordered differently by more than a point: ${swapped.length === 0 ? "none" : swapped.join("; ")}`,
  ];
}

function markdownOf(results: LiveResults): string {
  const rows = results.rows.map(
    ({ policy, live, virtual, errors, lateP99Ms, loadAverage }) =>
      `| ${policy} | ${share(live)} | ${share(virtual)} | ${ms(live.ttftP50Ms)} / ${ms(virtual.ttftP50Ms)} | ${ms(live.ttftP99Ms)} / ${ms(virtual.ttftP99Ms)} | ${ms(live.tpotP99Ms)} / ${ms(virtual.tpotP99Ms)} | ${errors} | ${ms(lateP99Ms)} | ${loadAverage.toFixed(1)} |`,
  );
  const [first] = results.rows;
  return `# The live run

Made by \`npm run evaluate:live\`; numbers in \`live.json\`. Not virtual time: the whole mesh as separate processes with a real nats-server
and a real PostgreSQL, engines behind HTTP in a process of their own, an open-loop client. What stays simulated is the GPU: each engine
is the evaluation's model of vLLM (see [README.md](README.md)) on the wall clock.

- **Machine**: ${results.machine}
- **Workload**: ${results.workload}
- **Rivals** choose in the client by their formulas and force the backend with a model that has no other; nothing waits for them in the mesh. So
  every request of every policy passes the same ingress, policy engine and adapter, and only the choice differs.
- **Sent late** is how long after its time the client got to send a request, and **load average** that of the whole machine: what else ran on it.
- **Virtual** is \`npm run evaluate\`'s machinery on the very same requests, machines and targets.
${first === undefined ? "" : `- **Sources** of the router: ${[...new Set(results.rows.map(({ sources }) => sources))].join(", ")}\n`}
| policy | targets met, live | virtual | TTFT p50 live / virtual | TTFT p99 | TPOT p99 | errors | sent late p99 | load average |
|---|---:|---:|---:|---:|---:|---:|---:|---:|
${rows.join("\n")}

${comparisonOf(results)
  .map((line) => `- ${line}`)
  .join("\n")}
`;
}

function share({ attainment }: Score): string {
  return `${(attainment * 100).toFixed(1)} %`;
}

function ms(value: number): string {
  return Number.isFinite(value) ? `${Math.round(value).toLocaleString("en-US")} ms` : "never";
}
