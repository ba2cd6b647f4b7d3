import { goalsOf } from "./goals.ts";
import type { Plan, Scenario } from "./plan.ts";
import { cellOf, type BenchResults, type Cell } from "./results.ts";
import { TARGETS, type Target } from "./targets/index.ts";
import { formatMs } from "./verb.ts";

/** What the run ran on. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly node: string;
  /** How processes were pinned, in words. */
  readonly pinning: string;
  /** Load average before the run: what else was going on. */
  readonly loadAverage: number;
  /** Median time of a small write and its fdatasync, ms. */
  readonly syncMs: number;
  /** UTC date, `2026-11-22`. */
  readonly date: string;
}

/** A Markdown table. */
export function markdownTable(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |\n`;
  return line(titles) + line(titles.map((_, index) => (index === 0 ? "---" : "---:"))) + rows.map(line).join("");
}

/** The whole of docs/benchmarks.md. */
export function reportMarkdown(results: BenchResults, plan: Plan, machine: Machine): string {
  const sections = plan.scenarios.map((scenario) => `### ${scenario.title}\n\n${scenarioTable(results, scenario)}`);
  const goals = (["embedded", "mesh"] as const).map((form) => {
    const rows = goalsOf(results, form).map(({ goal, wanted, measured, verdict }) => [goal, wanted, measured, verdict]);
    return `### Signalbox ${form}\n\n${markdownTable(["goal", "wanted", "measured", ""], rows)}`;
  });
  return `${intro(plan, machine)}\n## Goals\n\n${goals.join("\n")}\n## Figures\n\n${sections.join("\n")}\n### Memory without load\n\n${memoryTable(results)}`;
}

function intro(plan: Plan, machine: Machine): string {
  return `# Benchmarks

Written by \`npm run bench\`; do not edit. Everything is measured in one run, one after the other in turns (A B A B), ${plan.rounds} round${plan.rounds === 1 ? "" : "s"} of
${(plan.durationMs / 1000).toFixed(1)} s each after ${(plan.warmupMs / 1000).toFixed(1)} s of warm-up (and ${(plan.preheatMs / 1000).toFixed(1)} s of each kind before the first round); figures are medians over the rounds. Absolute figures move with the machine: the ratios are what counts.

- ${machine.date}, ${machine.cpu}, ${machine.cores} cores, ${(machine.memoryBytes / 1e9).toFixed(1)} GB, Linux ${machine.kernel}, Node ${machine.node}; load average before the run ${machine.loadAverage.toFixed(2)}
- ${machine.pinning}
- a small write and its fdatasync take ${machine.syncMs.toFixed(2)} ms here (median): no answer of Signalbox leaves before its attempt is on the disk, which no other gateway here does
- Requests of about 1 KB; answers of 600 B, or streams of 50 chunks, from a fake upstream that answers at once (paced: 25 chunks a second)
- Signalbox runs with everything on: keys, analysis, decision, intent and ledger, events, metrics, logs, 10 % of the traces to a collector
- added = the gateway's percentile less the percentile without a gateway, same round, same rate
- CPU is that of all processes of the gateway with their children, from /proc; "per core" is what one second of CPU carried
- TTFT is the time to the first event with content; in an open loop times count from the intended start, so that waiting is not left out
`;
}

function scenarioTable(results: BenchResults, scenario: Scenario): string {
  const titles = scenario.stream
    ? [
        "",
        "streams/s",
        "chunks/s",
        "chunks/s per core",
        "CPU us/stream",
        "TTFT p50",
        "TTFT p99",
        "added TTFT p50",
        "added TTFT p99",
        "RSS MB",
        "of floor",
        "errors",
      ]
    : ["", "requests/s", "per core", "CPU us", "p50 ms", "p99 ms", "added p50", "added p99", "RSS MB", "of floor", "errors"];
  const floor = cellOf(results.samples, "floor", scenario.id);
  const rows = TARGETS.map((target) => {
    const cell = cellOf(results.samples, target.id, scenario.id);
    const reason =
      cell === undefined ? (results.absent.get(target.id) ?? "not measured") : cell.rps === 0 ? `${cell.errors} errors` : undefined;
    if (cell === undefined || reason !== undefined) return [target.title, reason ?? "", ...titles.slice(2).map(() => "")];
    return scenario.stream ? streamRow(target, cell, floor) : jsonRow(target, cell, floor);
  });
  return markdownTable(titles, rows);
}

function jsonRow(target: Target, cell: Cell, floor: Cell | undefined): string[] {
  const isDirect = target.id === "direct";
  return [
    target.title,
    whole(cell.rps),
    isDirect ? "" : whole(cell.requestsPerCore),
    isDirect ? "" : whole(cell.cpuUs),
    formatMs(cell.p50),
    formatMs(cell.p99),
    isDirect ? "" : signedMs(cell.addedP50),
    isDirect ? "" : signedMs(cell.addedP99),
    isDirect ? "" : whole(cell.rssBytes / 1e6),
    ratioText(cell.rps, floor?.rps),
    String(cell.errors),
  ];
}

function streamRow(target: Target, cell: Cell, floor: Cell | undefined): string[] {
  const isDirect = target.id === "direct";
  return [
    target.title,
    whole(cell.rps),
    whole(cell.eventsPerSecond),
    isDirect ? "" : whole(cell.eventsPerCore),
    isDirect ? "" : whole(cell.cpuUs),
    formatMs(cell.ttftP50),
    formatMs(cell.ttftP99),
    isDirect ? "" : signedMs(cell.addedTtftP50),
    isDirect ? "" : signedMs(cell.addedTtftP99),
    isDirect ? "" : whole(cell.rssBytes / 1e6),
    ratioText(cell.eventsPerSecond, floor?.eventsPerSecond),
    String(cell.errors),
  ];
}

function memoryTable(results: BenchResults): string {
  const rows = TARGETS.filter(({ id }) => results.idleRssBytes.has(id)).map(({ id, title }) => [
    title,
    whole(results.idleRssBytes.get(id)! / 1e6),
  ]);
  return markdownTable(["", "RSS MB, all processes"], rows);
}

function whole(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

function signedMs(ms: number): string {
  return ms < 0 ? `-${formatMs(-ms)}` : formatMs(ms);
}

function ratioText(value: number, floor: number | undefined): string {
  return floor === undefined || floor === 0 ? "" : `${(value / floor).toFixed(2)}x`;
}
