import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import cliProgress from "cli-progress";
import { fingerprintOf, readResults, type Results, type StoredResult, writeReport } from "./report/files.ts";
import { markdownOf } from "./report/markdown.ts";
import { svgOf } from "./report/plots.ts";
import { runOnce } from "./run.ts";
import type { Effort, Scenario, ScenarioContext } from "./scenario.ts";
import { SCENARIOS } from "./scenarios/index.ts";
import { readTrace, type Trace, type TraceName, tracesFolder } from "./trace.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const OUT = fileURLToPath(new URL("../docs/evaluation", import.meta.url));

/** Seeds per slice. */
const SEEDS = 2;

const USAGE = `usage: npm run evaluate -- [--quick] [--scenario S2,S5] [--seeds N] [--out FOLDER]

  --quick     fewer slices, rates and routers: about a minute
  --scenario  these only (${SCENARIOS.map(({ id }) => id).join(", ")}); what earlier runs found of the others stays in the report
  --seeds     seeds per slice (default ${SEEDS}, quick 1)
  --out       where results.json, README.md and the plots go (default docs/evaluation)
`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      quick: { type: "boolean" },
      scenario: { type: "string" },
      seeds: { type: "string" },
      out: { type: "string" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) return say(USAGE.trimEnd());
  const quick = values.quick === true;
  const effort: Effort = { quick, seeds: Number(values.seeds ?? (quick ? 1 : SEEDS)) };
  if (!Number.isInteger(effort.seeds) || effort.seeds < 1) throw new Error(`--seeds must be a whole number from 1, not '${values.seeds}'`);
  const chosen = choose(values.scenario);
  const folder = tracesFolder(process.env, ROOT);
  const out = values.out ?? OUT;
  let results: Results = readResults(out);
  const bar = progressBar(chosen.reduce((sum, scenario) => sum + scenario.runs(effort), 0));
  const context = contextOf(effort, folder, bar);
  for (const scenario of chosen) {
    bar.update({ scenario: scenario.id });
    results = { ...results, [scenario.id]: await runScenario(scenario, context) };
    await report(out, results);
  }
  bar.stop();
  for (const { id } of chosen)
    for (const check of results[id]!.checks)
      say(`${check.met ? "met    " : "NOT MET"} ${id} ${check.what}: ${check.value} (goal: ${check.goal})`);
  say(`report: ${out}/README.md`);
}

function choose(wanted: string | undefined): readonly Scenario[] {
  if (wanted === undefined) return SCENARIOS;
  return wanted.split(",").map((id) => {
    const found = SCENARIOS.find((scenario) => scenario.id === id.trim().toUpperCase());
    if (found === undefined) throw new Error(`There is no scenario '${id}'; there are: ${SCENARIOS.map((each) => each.id).join(", ")}`);
    return found;
  });
}

/** A bar on a terminal; a line per scenario elsewhere. */
function progressBar(total: number): cliProgress.SingleBar {
  const bar = new cliProgress.SingleBar({
    format: "{bar} {percentage}% {scenario} {value}/{total} runs, {eta_formatted} left",
    hideCursor: true,
    clearOnComplete: true,
    etaBuffer: 200,
  });
  bar.start(total, 0, { scenario: "" });
  return bar;
}

function contextOf(effort: Effort, folder: string, bar: cliProgress.SingleBar): ScenarioContext {
  const traces = new Map<TraceName, Trace>();
  return {
    ...effort,
    trace: (name) => {
      let trace = traces.get(name);
      if (trace === undefined) traces.set(name, (trace = readTrace(folder, name)));
      return trace;
    },
    run: async (spec) => {
      const outcome = await runOnce(spec);
      bar.increment();
      return outcome;
    },
  };
}

async function runScenario(scenario: Scenario, context: ScenarioContext): Promise<StoredResult> {
  if (!process.stderr.isTTY) say(`${scenario.id}: ${scenario.title}, ${scenario.runs(context)} runs`);
  const before = process.cpuUsage();
  const result = await scenario.run(context);
  const { user, system } = process.cpuUsage(before);
  return {
    id: scenario.id,
    title: scenario.title,
    sources: fingerprintOf(ROOT),
    cpuS: (user + system) / 1e6,
    quick: context.quick,
    seeds: context.seeds,
    ...result,
  };
}

async function report(out: string, results: Results): Promise<void> {
  const plots = new Map<string, string>();
  for (const { plots: own } of Object.values(results)) for (const plot of own) plots.set(plot.file, await svgOf(plot));
  writeReport(out, results, markdownOf(results), plots);
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

try {
  await main();
} catch (cause) {
  process.stderr.write(`evaluate: ${cause instanceof Error ? cause.message : String(cause)}\n`);
  process.exitCode = 1;
}
