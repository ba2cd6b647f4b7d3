import { create } from "@bufbuild/protobuf";
import {
  PromoteExperimentRequestSchema,
  RollbackExperimentRequestSchema,
  SetExperimentWeightsRequestSchema,
  StartExperimentRequestSchema,
} from "#gen/signalbox/control/v1/control_service_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { ArmComparison, CostRow, ExperimentControl, ExperimentRecord, LedgerPeer } from "#libs/peers/index.ts";
import type { AdminCall, AdminHandler } from "./call.ts";
import type { ConsoleDeps } from "./deps.ts";
import { readJson, sendJson, stringOf, stringsOf } from "./http.ts";
import type { Route } from "./routes.ts";

/** Who made a change that the caller does not sign. */
const ADMIN = "admin";

/** No sums: the ledger does not answer, or nobody asked. */
const NO_ROWS: readonly CostRow[] = [];

/** Routes that start, change and show experiments. */
export function experimentRoutes(deps: ConsoleDeps): Route<AdminHandler>[] {
  const change =
    (apply: (control: ExperimentControl, name: string, body: Record<string, unknown>) => Promise<ExperimentRecord>): AdminHandler =>
    async ({ request, response, values }) => {
      const body = await readJson(request);
      sendJson(response, 200, await experimentJson(deps, await apply(controlOf(deps), values["name"] ?? "", body)));
    };
  const by = (body: Record<string, unknown>): string => stringOf(body, "by") ?? ADMIN;
  const start = change((control, _, body) => control.startExperiment(startOf(body, by(body))));
  const ramp = change((control, name, body) =>
    control.setExperimentWeights(create(SetExperimentWeightsRequestSchema, { name, weights: weightsOf(body["weights"]), by: by(body) })),
  );
  const rollback = change((control, name, body) => {
    const reason = stringOf(body, "reason") ?? "";
    return control.rollbackExperiment(create(RollbackExperimentRequestSchema, { name, by: by(body), reason }));
  });
  const promote = change((control, name, body) => {
    const arm = stringOf(body, "arm");
    if (!arm) throw refusal("arm", "arm is needed.");
    return control.promoteExperiment(create(PromoteExperimentRequestSchema, { name, arm, by: by(body) }));
  });
  const admin = (method: "GET" | "POST", path: string, handle: AdminHandler): Route<AdminHandler> => ({
    method,
    path,
    access: "admin",
    handle,
  });
  return [
    admin("POST", "/api/experiments", start),
    admin("GET", "/api/experiments", (call) => list(deps, call)),
    admin("GET", "/api/experiments/:name", (call) => show(deps, call)),
    admin("POST", "/api/experiments/:name/ramp", ramp),
    admin("POST", "/api/experiments/:name/rollback", rollback),
    admin("POST", "/api/experiments/:name/promote", promote),
  ];
}

function controlOf(deps: ConsoleDeps): ExperimentControl {
  if (deps.control !== undefined) return deps.control;
  throw new SignalboxError("NO_BACKEND", "This process does not reach the cost-ledger; ask the admin port of one that does.", {
    code: "peer_unavailable",
  });
}

async function list(deps: ConsoleDeps, { response }: AdminCall): Promise<void> {
  const records = await controlOf(deps).listExperiments();
  const rows = records.length === 0 ? NO_ROWS : await sumsOf(deps.ledger);
  sendJson(response, 200, { experiments: records.map((record) => toJson(deps, record, rows)) });
}

async function show(deps: ConsoleDeps, { response, values }: AdminCall): Promise<void> {
  const name = values["name"] ?? "";
  const record = (await controlOf(deps).listExperiments()).find((each) => each.name === name);
  if (record === undefined)
    throw new SignalboxError("ROUTE_UNKNOWN", `There is no experiment "${name.slice(0, 64)}".`, {
      code: "experiment_not_found",
      param: "name",
    });
  sendJson(response, 200, await experimentJson(deps, record));
}

/** What the engine of this process saw; null where nothing was seen, or where the engines are elsewhere. */
function seenJson(seen: ArmComparison | undefined): Record<string, unknown> {
  return {
    outcomes: seen?.outcomes ?? null,
    error_rate: seen?.errorRate ?? null,
    error_rate_difference: seen?.errorRateDifference ?? null,
    ttft_ms: seen?.ttftMs ?? null,
    tpot_ms: seen?.tpotMs ?? null,
  };
}

async function experimentJson(deps: ConsoleDeps, record: ExperimentRecord): Promise<Record<string, unknown>> {
  return toJson(deps, record, await sumsOf(deps.ledger));
}

/** Booked sums by experiment and arm; nothing while the ledger does not answer. */
async function sumsOf(ledger: LedgerPeer | undefined): Promise<readonly CostRow[]> {
  return ledger === undefined ? NO_ROWS : ledger.costs({ by: ["experiment", "arm"] }).catch(() => NO_ROWS);
}

function toJson(deps: ConsoleDeps, record: ExperimentRecord, rows: readonly CostRow[]): Record<string, unknown> {
  const seen = deps.explain?.compareArms?.(record.name) ?? [];
  return {
    name: record.name,
    revision: Number(record.revision),
    state: record.state,
    model: record.model,
    unit: record.unit,
    layer: record.layer,
    control: record.control,
    arms: record.arms.map((arm) => {
      const sums = rows.find(({ group }) => group[0] === record.name && group[1] === arm.name);
      return {
        name: arm.name,
        weight: arm.weight,
        backends: arm.backends,
        ...sumsJson(sums),
        ...seenJson(seen.find((each) => each.arm === arm.name)),
      };
    }),
    history: record.history.map((step) => ({
      revision: Number(step.revision),
      action: step.action,
      at: new Date(step.atMs).toISOString(),
      by: step.by,
      reason: step.reason,
      weights: step.weights,
    })),
  };
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

function startOf(body: Record<string, unknown>, by: string): ReturnType<typeof create<typeof StartExperimentRequestSchema>> {
  const name = stringOf(body, "name");
  const model = stringOf(body, "model");
  if (!name || !model) throw refusal(name ? "model" : "name", "name and model are needed.");
  const arms = body["arms"];
  if (!Array.isArray(arms)) throw refusal("arms", "arms must be a list of {name, weight, backends}.");
  return create(StartExperimentRequestSchema, {
    name,
    model,
    unit: stringOf(body, "unit") ?? "",
    layer: stringOf(body, "layer") ?? "",
    arms: arms.map(armOf),
    by,
  });
}

function armOf(value: unknown): { name: string; weight: number; backends: string[] } {
  if (typeof value !== "object" || value === null) throw refusal("arms", "an arm is an object {name, weight, backends}.");
  const arm = value as Record<string, unknown>;
  return { name: stringOf(arm, "name") ?? "", weight: weightOf(arm["weight"]), backends: [...stringsOf(arm, "backends")] };
}

function weightsOf(value: unknown): Record<string, number> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw refusal("weights", "weights must be an object of shares by arm.");
  return Object.fromEntries(Object.entries(value).map(([name, weight]) => [name, weightOf(weight)]));
}

function weightOf(value: unknown): number {
  if (typeof value === "number" && value >= 0 && value <= 1) return value;
  throw refusal("weight", "a weight is a share from 0 to 1.");
}

function refusal(param: string, message: string): SignalboxError {
  return new SignalboxError("REQUEST_MALFORMED", message, { param });
}
