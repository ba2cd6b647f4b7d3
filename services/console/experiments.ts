import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type ExperimentGuardsSchema,
  PauseExperimentRequestSchema,
  PromoteExperimentRequestSchema,
  RollbackExperimentRequestSchema,
  SetExperimentWeightsRequestSchema,
  StartExperimentRequestSchema,
} from "#gen/signalbox/control/v1/control_service_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { ExperimentControl, ExperimentRecord } from "#libs/peers/index.ts";
import type { AdminCall, AdminHandler } from "./call.ts";
import { confirmationsOf } from "./confirmations.ts";
import { controlOf } from "./control-of.ts";
import type { ConsoleDeps } from "./deps.ts";
import { experimentJson } from "./experiment-json.ts";
import { readJson, sendJson, stringOf, stringsOf } from "./http.ts";
import type { Route } from "./routes.ts";

/** Who made a change that the caller does not sign. */
const ADMIN = "admin";

/** Routes that start, change and show experiments. */
export function experimentRoutes(deps: ConsoleDeps): Route<AdminHandler>[] {
  const change =
    (apply: (control: ExperimentControl, name: string, body: Record<string, unknown>) => Promise<ExperimentRecord>): AdminHandler =>
    async ({ request, response, values }) => {
      const body = await readJson(request);
      const changed = await apply(controlOf(deps), values["name"] ?? "", body);
      const confirmations = await confirmationsOf(deps, changed.controlRevision, changed.history.at(-1)?.atMs ?? 0, body);
      sendJson(response, 200, { ...(await experimentJson(deps, changed)), ...confirmations });
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
  const pause = change((control, name, body) => {
    const reason = stringOf(body, "reason") ?? "";
    return control.pauseExperiment(create(PauseExperimentRequestSchema, { name, by: by(body), reason }));
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
    admin("POST", "/api/experiments/:name/pause", pause),
    admin("POST", "/api/experiments/:name/promote", promote),
  ];
}

async function list(deps: ConsoleDeps, { response }: AdminCall): Promise<void> {
  const records = await controlOf(deps).listExperiments();
  sendJson(response, 200, { experiments: await Promise.all(records.map((record) => experimentJson(deps, record))) });
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
    steps: stepsOf(body["steps"]),
    stepMs: numberOf(body["step_ms"], "step_ms") ?? 0,
    stepRequests: numberOf(body["step_requests"], "step_requests") ?? 0,
    ...(body["guards"] === undefined ? {} : { guards: guardsOf(body["guards"]) }),
  });
}

function armOf(value: unknown): { name: string; weight: number; backends: string[]; requestJson: string } {
  if (typeof value !== "object" || value === null) throw refusal("arms", "an arm is an object {name, weight, backends}.");
  const arm = value as Record<string, unknown>;
  const backends = [...stringsOf(arm, "backends")];
  const requestJson = arm["request"] === undefined || arm["request"] === null ? "" : JSON.stringify(arm["request"]);
  return { name: stringOf(arm, "name") ?? "", weight: weightOf(arm["weight"]), backends, requestJson };
}

function weightsOf(value: unknown): Record<string, number> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw refusal("weights", "weights must be an object of shares by arm.");
  return Object.fromEntries(Object.entries(value).map(([name, weight]) => [name, weightOf(weight)]));
}

function stepsOf(value: unknown): number[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw refusal("steps", "steps must be a list of shares from 0 to 1.");
  return value.map(weightOf);
}

function numberOf(value: unknown, name: string): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "number" && value >= 0 && value <= 2 ** 31) return value;
  throw refusal(name, `${name} is a number of at least 0.`);
}

/** `{error_rate, ttft, cost, quality, action}`; margins as numbers: 0.005 is half a point, 0.1 a tenth. */
function guardsOf(value: unknown): MessageInitShape<typeof ExperimentGuardsSchema> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw refusal("guards", "guards must be an object.");
  const { error_rate: errorRate, ttft, cost, quality, action = "" } = value as Record<string, unknown>;
  for (const margin of [errorRate, ttft, cost, quality])
    if (margin !== undefined && typeof margin !== "number") throw refusal("guards", "margins are numbers: 0.005 is half a point.");
  if (typeof action !== "string") throw refusal("guards", "action is rollback, pause or alert.");
  return {
    action,
    ...(typeof errorRate === "number" ? { errorRate } : {}),
    ...(typeof ttft === "number" ? { ttft } : {}),
    ...(typeof cost === "number" ? { cost } : {}),
    ...(typeof quality === "number" ? { quality } : {}),
  };
}

function weightOf(value: unknown): number {
  if (typeof value === "number" && value >= 0 && value <= 1) return value;
  throw refusal("weight", "a weight is a share from 0 to 1.");
}

function refusal(param: string, message: string): SignalboxError {
  return new SignalboxError("REQUEST_MALFORMED", message, { param });
}
