import {
  analyseArm,
  type Experiment,
  type GuardMemory,
  guardStandings,
  isDue,
  noGuardMemory,
  type Observations,
  plannedArm,
  planMove,
  sampleRatio,
  type StepStart,
  stepStart,
} from "#libs/experiments/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";

/** What an analysis may do. Each applies only while the experiment's revision is the one analysed. */
export interface Actions {
  rollback(experiment: Experiment, by: string, reason: string): Promise<void>;
  pause(experiment: Experiment, by: string, reason: string): Promise<void>;
  /** The plan's next step; a share of 1 promotes. */
  advance(experiment: Experiment, arm: string, share: number): Promise<void>;
}

/** What is remembered of an experiment between analyses. Plain JSON. */
export interface DeskMemory {
  readonly arms: Readonly<Record<string, GuardMemory>>;
  readonly step?: StepStart;
  /** Revision and reason of the last breach that only an alert was raised for. */
  readonly alerted?: string;
}

/** Before the first analysis. */
export const NO_MEMORY: DeskMemory = { arms: {} };

/** Who acts. */
const GUARD = "guard";
export const PLAN = "plan";

/** The scene of an analysis. */
export interface AnalysisContext {
  readonly engines: number;
  readonly nowMs: number;
  readonly logger: Logger;
}

/** Looks at the arms that have news, acts on the first breach, else moves the plan on. Returns what to remember; the same when there was nothing. */
export async function analyse(
  experiment: Experiment,
  seen: Observations,
  before: DeskMemory,
  context: AnalysisContext,
  actions: Actions,
): Promise<DeskMemory> {
  let memory = before;
  for (const { name } of experiment.arms) {
    if (name === experiment.control) continue;
    const known = memory.arms[name] ?? noGuardMemory();
    if (!isDue(known, seen, name, context.nowMs)) continue;
    const analysed = analyseArm(experiment, seen, name, known, context.nowMs);
    memory = { ...memory, arms: { ...memory.arms, [name]: analysed.memory } };
    const breach = analysed.guards.find(({ status }) => status === "breached");
    if (breach !== undefined) return act(experiment, `arm ${name}: ${breach.reason}`, memory, context, actions);
  }
  return move(experiment, seen, memory, context, actions);
}

async function act(
  experiment: Experiment,
  reason: string,
  memory: DeskMemory,
  { logger }: AnalysisContext,
  actions: Actions,
): Promise<DeskMemory> {
  const { action } = experiment.guards;
  const told = `${experiment.revision}: ${reason.split(":")[0]}`;
  if (action === "alert" && memory.alerted === told) return memory;
  logger.warn({ experiment: experiment.name, revision: experiment.revision, reason, action }, "guard breached");
  if (action === "rollback") await actions.rollback(experiment, GUARD, reason);
  if (action === "pause" && experiment.state === "running") await actions.pause(experiment, GUARD, reason);
  return { ...memory, alerted: told };
}

async function move(
  experiment: Experiment,
  seen: Observations,
  memory: DeskMemory,
  { engines, nowMs }: AnalysisContext,
  actions: Actions,
): Promise<DeskMemory> {
  const arm = plannedArm(experiment);
  if (experiment.plan === undefined || arm === undefined) return memory;
  const step = stepStart(experiment, seen, memory.step, nowMs);
  // As they stand now, not at the last analysis: a step of few requests may end before there is one.
  const standings = guardStandings(experiment, seen, arm);
  const next = planMove(experiment, seen, standings, sampleRatio(experiment, seen, engines), step, nowMs);
  if (next.kind === "advance") await actions.advance(experiment, next.arm, next.share);
  if (next.kind === "pause") await actions.pause(experiment, PLAN, next.reason);
  return step === memory.step ? memory : { ...memory, step };
}
