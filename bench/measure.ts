import { chatBody, runLoadInChild, type LoadOptions, type LoadReport, type Pace } from "./load/index.ts";
import { treeUsage } from "./harness/process-tree.ts";
import { PACED_MIN_MS, PROMPT_TOKENS, type Plan, type Scenario, type ScenarioId } from "./plan.ts";
import type { Sample } from "./results.ts";
import type { RunningTarget, TargetId } from "./targets/index.ts";

/** What is measured, and how. */
export interface MeasureOptions {
  readonly running: ReadonlyMap<TargetId, RunningTarget>;
  readonly plan: Plan;
  /** Prefix that pins the load generator. */
  readonly pinLoad: readonly string[];
  readonly say: (text: string) => void;
}

/** What one run of the load generator brought, with what the gateway used meanwhile. */
interface Run {
  readonly report: LoadReport;
  readonly cpuMs: number;
  readonly rssBytes: number;
}

/** All rounds of all loads over all targets, in turns: A B C, A B C, ... so that a slow minute of the machine hits everybody. */
export async function measureAll(options: MeasureOptions): Promise<Sample[]> {
  const samples: Sample[] = [];
  const { plan, running, say } = options;
  const total = plan.rounds * (plan.scenarios.length * running.size - (running.has("direct") ? 1 : 0));
  for (const [id, target] of running) {
    for (const scenario of plan.scenarios) if (PREHEAT.has(scenario.id)) await preheat(options, id, target, scenario);
  }
  for (let round = 1; round <= plan.rounds; round++) {
    /** Requests/s of each target at json-64 of this round: half of it is the rate of the open loop. */
    const saturation = new Map<TargetId, number>();
    for (const scenario of plan.scenarios) {
      let baseline: LoadReport | undefined;
      for (const [id, target] of running) {
        // Direct has no saturation of its own here: it is the generator's. It is measured at each target's rate instead.
        if (id === "direct" && scenario.pace === "half") continue;
        const pace = paceOf(scenario, saturation.get(id) ?? 0);
        if (scenario.pace === "half" && id !== "direct") baseline = await directAt(options, scenario, pace);
        const run = await measure(options, target, scenario, pace);
        if (id === "direct") baseline = run.report;
        if (scenario.id === "json-64") saturation.set(id, run.report.rps);
        samples.push({ target: id, scenario: scenario.id, ...run, baseline: id === "direct" ? undefined : baseline });
        say(`[${samples.length}/${total}] round ${round}  ${scenario.id.padEnd(8)} ${id.padEnd(9)} ${summaryOf(run, scenario)}`);
      }
    }
  }
  return samples;
}

/** Loads that leave no path of a gateway cold. */
const PREHEAT = new Set<ScenarioId>(["json-64", "sse-128"]);

async function preheat(options: MeasureOptions, id: TargetId, target: RunningTarget, scenario: Scenario): Promise<void> {
  if (id === "direct") return;
  const plan = { ...options.plan, warmupMs: 0, durationMs: options.plan.preheatMs };
  const { report } = await measure({ ...options, plan }, target, scenario, paceOf(scenario, 0));
  const problems = report.errors > 0 ? `, ${report.errors} errors ${JSON.stringify(report.errorsByKind)}` : "";
  options.say(`preheated ${id} with ${scenario.id}: ${report.ok} answers${problems}`);
}

/** Smallest rate of an open loop, requests/s: below it a run holds too few. */
const RATE_MIN = 10;

function paceOf(scenario: Scenario, saturation: number): Pace {
  return scenario.pace === "half" ? { kind: "open", rps: Math.max(RATE_MIN, Math.floor(saturation / 2)) } : scenario.pace;
}

/** Without a gateway at the rate a target is about to get. */
async function directAt(options: MeasureOptions, scenario: Scenario, pace: Pace): Promise<LoadReport | undefined> {
  const direct = options.running.get("direct");
  return direct === undefined ? undefined : (await measure(options, direct, scenario, pace)).report;
}

async function measure(options: MeasureOptions, target: RunningTarget, scenario: Scenario, pace: Pace): Promise<Run> {
  const { plan, pinLoad } = options;
  const endpoint = target.endpoint(scenario.isPaced);
  const load: LoadOptions = {
    host: "127.0.0.1",
    port: endpoint.port,
    path: endpoint.path,
    headers: endpoint.headers,
    body: chatBody({ model: endpoint.model, stream: scenario.stream, promptTokens: PROMPT_TOKENS, maxTokens: scenario.tokens }),
    stream: scenario.stream,
    pace,
    warmupMs: plan.warmupMs,
    durationMs: scenario.isPaced ? Math.max(PACED_MIN_MS, plan.durationMs) : plan.durationMs,
  };
  let before = treeUsage(target.roots());
  let after = before;
  const report = await runLoadInChild(load, pinLoad, (phase) => {
    if (phase === "measuring") before = treeUsage(target.roots());
    else if (phase !== "warming") after = phaseEnd(after, before, target);
  });
  return { report, cpuMs: after.cpuMs - before.cpuMs, rssBytes: after.rssBytes };
}

/** Usage at the end of the measured part: the first phase after it counts, later ones change nothing. */
function phaseEnd(
  after: ReturnType<typeof treeUsage>,
  before: ReturnType<typeof treeUsage>,
  target: RunningTarget,
): ReturnType<typeof treeUsage> {
  return after.cpuMs > before.cpuMs ? after : treeUsage(target.roots());
}

function summaryOf({ report, cpuMs }: Run, scenario: Scenario): string {
  const rate = scenario.stream ? `${report.eventsPerSecond.toFixed(0)} chunks/s` : `${report.rps.toFixed(0)} requests/s`;
  const times = scenario.stream ? report.ttft : report.latency;
  const cpu = report.ok > 0 && cpuMs > 0 ? `, ${((cpuMs * 1000) / report.ok).toFixed(0)} us CPU` : "";
  const problems = report.errors > 0 ? `, ${report.errors} errors ${JSON.stringify(report.errorsByKind)}` : "";
  return `${rate}, p50 ${times.p50.toFixed(2)} p99 ${times.p99.toFixed(2)} ms${cpu}${problems}`;
}
