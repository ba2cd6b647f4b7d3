import type { CostRow, ExperimentComparison, ExperimentRecord, LedgerPeer } from "#libs/peers/index.ts";
import { shadowName } from "#libs/experiments/index.ts";
import { SYSTEM_TENANT } from "#libs/money/index.ts";
import { controlOf } from "./control-of.ts";
import type { ConsoleDeps } from "./deps.ts";
import { stepJson } from "./step-json.ts";

/** No sums: the ledger does not answer, or nobody asked. */
const NO_ROWS: readonly CostRow[] = [];

/** Below this chance an assignment does not follow its weights, and nothing may be concluded from the comparison. */
const SAMPLE_RATIO_MIN = 0.001;

type Arm = ExperimentComparison["arms"][number];

/** An experiment with its arms side by side: what is booked, and what the engines saw. */
export async function experimentJson(deps: ConsoleDeps, record: ExperimentRecord): Promise<Record<string, unknown>> {
  const [rows, seen] = await Promise.all([
    sumsOf(deps.ledger),
    // A comparison that is not to be had hides nothing else.
    controlOf(deps)
      .compareExperiment(record.name)
      .catch(() => undefined),
  ]);
  return {
    name: record.name,
    revision: Number(record.revision),
    state: record.state,
    model: record.model,
    unit: record.unit,
    layer: record.layer,
    control: record.control,
    arms: record.arms.map((arm) => ({
      name: arm.name,
      weight: arm.weight,
      backends: arm.backends,
      request: arm.requestJson === "" ? null : (JSON.parse(arm.requestJson) as unknown),
      ...sumsJson(rows.find(({ group }) => isOf(group, record.name, arm.name, ""))),
      ...armJson(seen?.arms.find((each) => each.arm === arm.name)),
      shadow: shadowJson(record.name, arm.name, rows, seen),
    })),
    judge_cost_nano_usd: String(
      rows.filter(({ group }) => isOf(group, record.name, group[1]!, "judge")).reduce((sum, { costNanoUsd }) => sum + costNanoUsd, 0n),
    ),
    guards: guardsJson(record, seen),
    plan:
      record.steps.length === 0
        ? null
        : { steps: record.steps, step: record.step, step_ms: record.stepMs, step_requests: record.stepRequests },
    sample_ratio_p: seen?.sampleRatioP ?? null,
    valid: seen === undefined ? null : seen.sampleRatioP >= SAMPLE_RATIO_MIN,
    engines: seen?.engines ?? null,
    history: record.history.map((step) => ({ ...stepJson(step), weights: step.weights })),
  };
}

/** Booked sums by experiment, arm and who paid; nothing while the ledger does not answer. */
async function sumsOf(ledger: LedgerPeer | undefined): Promise<readonly CostRow[]> {
  if (ledger === undefined) return NO_ROWS;
  const rows = await ledger.costs({ by: ["experiment", "arm", "tenant", "team"] }).catch(() => NO_ROWS);
  return addedUp(rows.filter(({ group }) => group[0] !== ""));
}

/** One row each for an arm's clients, its copies and its judges, in the third place of the group: "", "shadow" or "judge". */
function addedUp(rows: readonly CostRow[]): readonly CostRow[] {
  const sums = new Map<string, CostRow>();
  for (const row of rows) {
    const [experiment, arm, tenant, team] = row.group;
    const role = tenant === SYSTEM_TENANT ? team!.slice(0, team!.indexOf("/")) : "";
    const key = JSON.stringify([experiment, arm, role]);
    const known = sums.get(key);
    if (known === undefined) {
      sums.set(key, { ...row, group: [experiment!, arm!, role] });
      continue;
    }
    known.requests += row.requests;
    known.attempts += row.attempts;
    known.outputTokens += row.outputTokens;
    known.costNanoUsd += row.costNanoUsd;
  }
  return [...sums.values()];
}

function isOf(group: readonly string[], experiment: string, arm: string, role: string): boolean {
  return group[0] === experiment && group[1] === arm && group[2] === role;
}

/** What copies to an arm came to; null where it got none. */
function shadowJson(
  experiment: string,
  arm: string,
  rows: readonly CostRow[],
  seen: ExperimentComparison | undefined,
): Record<string, unknown> | null {
  const sums = rows.find(({ group }) => isOf(group, experiment, arm, "shadow"));
  const compared = seen?.arms.find((each) => each.arm === shadowName(arm));
  return sums === undefined && compared === undefined ? null : { ...sumsJson(sums), ...armJson(compared) };
}

function sumsJson(sums: CostRow | undefined): Record<string, unknown> {
  const requests = sums?.requests ?? 0n;
  const cost = sums?.costNanoUsd ?? 0n;
  const tokens = sums?.outputTokens ?? 0n;
  return {
    requests: Number(requests),
    attempts: Number(sums?.attempts ?? 0n),
    output_tokens: String(tokens),
    cost_nano_usd: String(cost),
    cost_per_request_nano_usd: requests === 0n ? null : String(cost / requests),
    cost_per_1k_output_nano_usd: tokens === 0n ? null : String((cost * 1_000n) / tokens),
  };
}

/** What all engines saw of an arm; null where nothing was seen. */
function armJson(arm: Arm | undefined): Record<string, unknown> {
  const of = (name: string): Arm["metrics"][number] | undefined => arm?.metrics.find(({ metric }) => metric === name);
  const error = of("error");
  return {
    outcomes: error?.count ?? null,
    units: arm?.units ?? null,
    error_rate: error?.mean ?? null,
    error_rate_difference: error?.lower === undefined || error.upper === undefined ? null : [error.lower, error.upper],
    ttft_ms: of("ttft")?.mean ?? null,
    tpot_ms: of("tpot")?.mean ?? null,
    metrics: Object.fromEntries(
      (arm?.metrics ?? []).map(({ metric, count, mean, difference, lower, upper }) => [
        metric,
        { count, mean, difference: difference ?? null, lower: lower ?? null, upper: upper ?? null },
      ]),
    ),
  };
}

function guardsJson({ guards }: ExperimentRecord, seen: ExperimentComparison | undefined): Record<string, unknown> {
  return {
    error_rate: guards?.errorRate ?? null,
    ttft: guards?.ttft ?? null,
    cost: guards?.cost ?? null,
    quality: guards?.quality ?? null,
    action: guards?.action ?? null,
    standings: (seen?.guards ?? []).map(({ arm, guard, margin, status }) => ({ arm, guard, margin, status })),
  };
}
