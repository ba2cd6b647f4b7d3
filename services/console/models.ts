import { create } from "@bufbuild/protobuf";
import { RollbackModelRequestSchema } from "#gen/signalbox/control/v1/control_service_pb.ts";
import type { ModelRecord } from "#libs/peers/index.ts";
import type { AdminHandler } from "./call.ts";
import { confirmationsOf } from "./confirmations.ts";
import { controlOf } from "./control-of.ts";
import type { ConsoleDeps } from "./deps.ts";
import { readJson, sendJson, stringOf } from "./http.ts";
import type { Route } from "./routes.ts";
import { stepJson } from "./step-json.ts";

/** Routes that show models with their revisions, take the last one back, and list who has applied what. */
export function modelRoutes(deps: ConsoleDeps): Route<AdminHandler>[] {
  const list: AdminHandler = async ({ response }) =>
    sendJson(response, 200, { models: (await controlOf(deps).listModels()).map(modelJson) });
  const rollback: AdminHandler = async ({ request, response, values }) => {
    const body = await readJson(request);
    const parts = { name: values["name"] ?? "", by: stringOf(body, "by") ?? "admin", reason: stringOf(body, "reason") ?? "" };
    const changedAtMs = deps.clock.now();
    const model = await controlOf(deps).rollbackModel(create(RollbackModelRequestSchema, parts));
    sendJson(response, 200, { ...modelJson(model), ...(await confirmationsOf(deps, model.controlRevision, changedAtMs, body)) });
  };
  const replicas: AdminHandler = async ({ response }) => sendJson(response, 200, await confirmationsOf(deps, 0n, 0, {}));
  return [
    { method: "GET", path: "/api/models", access: "admin", handle: list },
    { method: "POST", path: "/api/models/:name/rollback", access: "admin", handle: rollback },
    { method: "GET", path: "/api/replicas", access: "admin", handle: replicas },
  ];
}

function modelJson(model: ModelRecord): Record<string, unknown> {
  return {
    name: model.name,
    revision: Number(model.revision),
    candidates: model.candidates,
    aliases: model.aliases,
    class: model.class,
    experiments: model.experiments,
    history: model.history.map((step) => ({ ...stepJson(step), candidates: step.candidates })),
  };
}
