import type { Cell, Check, Table, Unit } from "../scenario.ts";
import type { Interval } from "../statistics.ts";
import type { Results, StoredResult } from "./files.ts";

const HEAD = `# Evaluation

Made by \`npm run evaluate\`; numbers in \`results.json\`. Everything here is **simulated**: virtual time, engines that follow a linear
model of vLLM, requests of public traces. The router is the production code: the policy engine, the health monitor, breakers, limits and
retry budget are the modules a process runs; only sockets and GPUs are models. Rivals are re-implementations of their published
formulas, not their binaries. No number here is a claim about hardware.

- **Engines**: one iteration takes \`base + prefill * promptTokens + decode * sequences + kv * contextTokens\` ms; continuous batching,
  8,192 tokens per iteration, at most 256 sequences, key-value memory with admission and preemption by recomputation, a prefix cache in
  512-token blocks. H100 7/0.033/0.05/4.5e-5 and 430k tokens, A100 10/0.065/0.07/6.5e-5 and 430k, L40S 20/0.11/0.10/1.5e-4 and 180k.
- **Traces**: Azure LLM inference 2023 (conversation, code; CC-BY 4.0) and Mooncake FAST25 (conversation, synthetic; Apache-2.0), cut into
  slices whose gaps are compressed to the stated mean rate. Set \`SIGNALBOX_TRACES\` to their folder.
- **Targets met** (SLO attainment): share of all requests whose first token and mean time per output token are both within their targets.
  Refused and failed requests have met neither. Nothing is left out as warm-up: the router starts knowing nothing of the pool.
- **Intervals** are 95 % (Student's t over slices; the seeds of one slice are averaged first, as they are not independent). Two routers are
  compared by the paired t interval of their differences slice by slice and seed by seed: both get the same requests at the same times
  (common random numbers; Law, *Simulation Modeling and Analysis*, 5th ed., sections 10.2.1 and 11.2), so what makes a slice hard for both
  cancels. The intervals beside each router's own figure do hold that, and are wider; they say nothing about who is better.
- **Router sources**: each section names a fingerprint of the policy engine, the health monitor and the breakers it was run with.
`;

const FOOT = `## What is not here

- Ablations of single terms (externality, censored update) would need switches inside the policy engine that production has no use for;
  ablations that configuration or input can make (no engine metrics, nothing waits, no prefix hashes) are in the tables.
- S10 (experiments) is not part of this report.
- Speculative decoding, disaggregated prefill and network jitter are not modelled; all backends serve one model of one size.
`;

/** The report of everything run so far. */
export function markdownOf(results: Results): string {
  const ordered = Object.values(results).toSorted((a, b) => Number(a.id.slice(1)) - Number(b.id.slice(1)));
  const checks = ordered.flatMap(({ id, checks: own }) => own.map((check) => ({ id, ...check })));
  return [HEAD, "## Goals\n", goalsOf(checks), ...ordered.map(sectionOf), FOOT].join("\n");
}

function goalsOf(checks: readonly (Check & { readonly id: string })[]): string {
  const rows = checks.map(({ id, what, goal, value, met }) => `| ${id} | ${what} | ${goal} | ${value} | ${met ? "yes" : "**no**"} |`);
  return ["| scenario | what | goal | measured | met |", "|---|---|---|---|---|", ...rows, ""].join("\n");
}

function sectionOf({ id, title, text, tables, plots, quick, seeds, cpuS, sources }: StoredResult): string {
  const made = `_${quick ? "Quick run" : "Full run"}, ${seeds} ${seeds === 1 ? "seed" : "seeds"} per slice, ${Math.round(cpuS)} s of processor time, router sources ${sources}._`;
  const images = plots.map(({ file, title: alt }) => `![${alt}](${file}.svg)\n`);
  return [`## ${id}: ${title}\n`, ...text.map((line) => `${line}\n`), made, "", ...tables.map(tableOf), ...images].join("\n");
}

function tableOf({ title, columns, rows, note }: Table): string {
  const lines = rows.map((row) => `| ${columns.map(({ key, unit }) => shown(row[key], unit)).join(" | ")} |`);
  const align = columns.map(({ unit }) => (unit === "text" ? "---" : "---:"));
  const parts = [`**${title}**\n`, `| ${columns.map(({ label }) => label).join(" | ")} |`, `|${align.join("|")}|`, ...lines, ""];
  return [...parts, ...(note === undefined ? [] : [`${note}\n`])].join("\n");
}

function shown(cell: Cell | null, unit: Unit): string {
  if (cell === undefined) return "";
  // JSON has no infinity: what never came is null there
  if (cell === null || cell === Number.POSITIVE_INFINITY) return "never";
  if (typeof cell === "string") return cell;
  if (typeof cell === "number") return `${numberOf(cell, unit)}${SUFFIX[unit]}`;
  const { mean, half, count }: Interval = cell;
  return count < 2 ? `${numberOf(mean, unit)}${SUFFIX[unit]}` : `${numberOf(mean, unit)} ± ${numberOf(half, unit)}${SUFFIX[unit]}`;
}

const SUFFIX: Readonly<Record<Unit, string>> = {
  text: "",
  share: " %",
  points: "",
  ms: " ms",
  s: " s",
  usd: "",
  rate: "/s",
  count: "",
  ratio: "",
};

function numberOf(value: number | null, unit: Unit): string {
  if (value === null || !Number.isFinite(value)) return "never";
  switch (unit) {
    case "share":
      return (value * 100).toFixed(1);
    case "points":
    case "s":
    case "rate":
      return value.toFixed(1);
    case "ms":
    case "count":
      return Math.round(value).toLocaleString("en-US");
    case "usd":
      return `$${value.toFixed(2)}`;
    case "ratio":
      return value.toFixed(2);
    case "text":
      return String(value);
  }
}
