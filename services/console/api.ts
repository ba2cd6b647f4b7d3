import { create } from "@bufbuild/protobuf";
import { CreateKeyRequestSchema } from "#gen/signalbox/control/v1/control_service_pb.ts";
import { ExplainRequestSchema } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { KeyRecord } from "#libs/peers/index.ts";
import { backendRows } from "./backends.ts";
import type { AdminCall, AdminHandler } from "./call.ts";
import type { ConsoleDeps } from "./deps.ts";
import { sendLedgerEntries } from "./entries.ts";
import { experimentRoutes } from "./experiments.ts";
import { explainJson } from "./explain-json.ts";
import { dryRunRequest } from "./explain-request.ts";
import { sendBudgets, sendCosts, sendReconciliation, sendVerification } from "./finance.ts";
import { countOf, readJson, sendJson, stringOf, stringsOf } from "./http.ts";
import { modelRoutes } from "./models.ts";
import type { Route } from "./routes.ts";

/** Longest a fault may be set for, ms: a forgotten one must not outlive the day. */
const FAULT_MAX_MS = 24 * 3_600_000;

/** The routes of the admin API that need the token. Those of a peer this process does not reach answer 503. */
export function apiRoutes(deps: ConsoleDeps): Route<AdminHandler>[] {
  const admin = (method: Route<AdminHandler>["method"], path: string, handle: AdminHandler): Route<AdminHandler> => ({
    method,
    path,
    access: "admin",
    handle,
  });
  return [
    admin("GET", "/api/keys", (call) => listKeys(deps, call)),
    admin("POST", "/api/keys", (call) => createKey(deps, call)),
    admin("DELETE", "/api/keys/:id", async ({ response, values }) =>
      sendJson(response, 200, keyJson(await need(deps.control, "cost-ledger").revokeKey(values["id"]!))),
    ),
    admin("POST", "/api/keys/:id/rotate", (call) => rotateKey(deps, call)),
    admin("GET", "/api/backends", async ({ response }) => sendJson(response, 200, { backends: await backendRows(deps) })),
    admin("POST", "/api/backends/:name/drain", (call) => setDrain(deps, call, true)),
    admin("POST", "/api/backends/:name/undrain", (call) => setDrain(deps, call, false)),
    admin("GET", "/api/ledger/entries", (call) => sendLedgerEntries(need(deps.ledger, "cost-ledger"), call)),
    admin("GET", "/api/ledger/summary", (call) => summary(deps, call)),
    admin("GET", "/api/ledger/verify", (call) => sendVerification(need(deps.ledger, "cost-ledger"), call)),
    admin("POST", "/api/ledger/reconcile", (call) => sendReconciliation(need(deps.ledger, "cost-ledger"), call)),
    admin("GET", "/api/costs", (call) => sendCosts(need(deps.ledger, "cost-ledger"), call)),
    admin("GET", "/api/budgets", (call) => sendBudgets(need(deps.ledger, "cost-ledger"), call)),
    ...experimentRoutes(deps),
    ...modelRoutes(deps),
    admin("POST", "/api/explain", (call) => explainDryRun(deps, call)),
    admin("GET", "/api/explain/last", (call) => explainStored(deps, call, { case: "last", value: true })),
    admin("GET", "/api/explain/:id", (call) => explainStored(deps, call, { case: "id", value: call.values["id"]! })),
    admin("POST", "/api/reload", (call) => reload(deps, call)),
    admin("POST", "/api/sim/faults", (call) => setFault(deps, call)),
    admin("DELETE", "/api/sim/faults", (call) => {
      need(deps.simulator, "simulator").clear();
      sendJson(call.response, 200, { cleared: true });
    }),
  ];
}

/** The peer, or a 503 that names what this process does not reach. */
function need<T>(peer: T | undefined, name: string): T {
  if (peer === undefined)
    throw new SignalboxError("NO_BACKEND", `This process does not reach the ${name}; ask the admin port of one that does.`, {
      code: "peer_unavailable",
    });
  return peer;
}

async function listKeys(deps: ConsoleDeps, { response, query }: AdminCall): Promise<void> {
  const keys = await need(deps.control, "cost-ledger").listKeys(query.get("tenant") ?? undefined);
  sendJson(response, 200, { keys: keys.map(keyJson) });
}

async function createKey(deps: ConsoleDeps, { request, response }: AdminCall): Promise<void> {
  const body = await readJson(request);
  const tenant = stringOf(body, "tenant");
  if (!tenant) throw new SignalboxError("REQUEST_MALFORMED", "tenant is needed.", { param: "tenant" });
  const models = stringsOf(body, "models");
  const created = await need(deps.control, "cost-ledger").createKey(
    create(CreateKeyRequestSchema, { tenant, team: stringOf(body, "team") ?? "", models, name: stringOf(body, "name") ?? "" }),
  );
  const { record } = created;
  sendJson(response, 201, { id: record?.keyId, key: created.key, tenant: record?.tenant, team: record?.team, models: record?.models });
}

async function rotateKey(deps: ConsoleDeps, { request, response, values }: AdminCall): Promise<void> {
  const body = await readJson(request);
  const { record, key } = await need(deps.control, "cost-ledger").rotateKey(values["id"]!, countOf(body, "grace_ms"));
  sendJson(response, 200, {
    id: record?.keyId,
    key,
    tenant: record?.tenant,
    team: record?.team,
    old_until: record?.previousUntilMs ? new Date(record.previousUntilMs).toISOString() : null,
  });
}

function keyJson(key: KeyRecord): Record<string, unknown> {
  const time = (ms: number): string | null => (ms === 0 ? null : new Date(ms).toISOString());
  return {
    id: key.keyId,
    hint: key.hint,
    tenant: key.tenant,
    team: key.team,
    models: key.models,
    name: key.name,
    created_at: time(key.createdAtMs),
    revoked_at: time(key.revokedAtMs),
    expires_at: time(key.expiresAtMs),
  };
}

async function setDrain(deps: ConsoleDeps, { response, values }: AdminCall, drained: boolean): Promise<void> {
  const name = values["name"]!;
  if (!deps.config.current.backends.has(name)) {
    throw new SignalboxError(
      "ROUTE_UNKNOWN",
      `There is no backend "${name}"; known: ${[...deps.config.current.backends.keys()].join(", ")}.`,
      { code: "backend_not_found" },
    );
  }
  sendJson(response, 200, { drained: await need(deps.control, "cost-ledger").setDrain(name, drained) });
}

async function summary(deps: ConsoleDeps, { response }: AdminCall): Promise<void> {
  const totals = await need(deps.ledger, "cost-ledger").summary();
  sendJson(response, 200, {
    entries: String(totals.entries),
    cost_nano_usd: String(totals.costNanoUsd),
    duplicates: String(totals.duplicates),
    last_booked_at: totals.lastBookedAtMs === 0 ? null : new Date(totals.lastBookedAtMs).toISOString(),
    store: totals.store,
    store_up: totals.storeUp,
    append_only: totals.appendOnly,
  });
}

async function explainDryRun(deps: ConsoleDeps, { request, response }: AdminCall): Promise<void> {
  const value = dryRunRequest(await readJson(request), deps.uuid(), deps.config.current);
  const record = await need(deps.explain, "policy-engine").explain(create(ExplainRequestSchema, { subject: { case: "dryRun", value } }));
  if (!record) throw new SignalboxError("INTERNAL", "The policy engine gave no record.");
  sendJson(response, 200, explainJson(record));
}

async function explainStored(
  deps: ConsoleDeps,
  { response }: AdminCall,
  subject: { case: "id"; value: string } | { case: "last"; value: true },
): Promise<void> {
  const record = await need(deps.explain, "policy-engine").explain(create(ExplainRequestSchema, { subject }));
  if (!record) {
    const what =
      subject.case === "last"
        ? "There is no decision yet."
        : `No decision is kept for "${subject.value.slice(0, 128)}": it never was, or its record is gone.`;
    throw new SignalboxError("ROUTE_UNKNOWN", what, { code: "decision_not_found" });
  }
  sendJson(response, 200, explainJson(record));
}

async function reload(deps: ConsoleDeps, { response }: AdminCall): Promise<void> {
  const result = await deps.reload();
  if ("configVersion" in result) return sendJson(response, 200, { config_version: result.configVersion });
  sendJson(response, 400, {
    error: {
      message: "The configuration was refused; the old one stays in force.",
      type: "invalid_request_error",
      param: null,
      code: "invalid_config",
    },
    diagnostics: result.diagnostics,
  });
}

async function setFault(deps: ConsoleDeps, { request, response }: AdminCall): Promise<void> {
  const simulator = need(deps.simulator, "simulator");
  const body = await readJson(request);
  const backend = stringOf(body, "backend");
  const kind = stringOf(body, "kind");
  if (!backend || !kind)
    throw new SignalboxError("REQUEST_MALFORMED", "backend and kind are needed.", { param: backend ? "kind" : "backend" });
  const forMs = typeof body["for_ms"] === "number" ? Math.min(body["for_ms"], FAULT_MAX_MS) : undefined;
  simulator.fault(backend, kind, { ...body, ...(forMs === undefined ? {} : { for_ms: forMs }) });
  sendJson(response, 200, { backend, kind, for_ms: forMs ?? null });
}
