import { ControlService } from "#gen/signalbox/control/v1/control_service_pb.ts";
import { HealthService } from "#gen/signalbox/health/v1/health_service_pb.ts";
import { LedgerService } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import { PolicyService } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { ControlPeer, ExperimentRecord, ExplainPeer, HealthPeer, InvoiceDifference, LedgerPeer } from "#libs/peers/index.ts";
import { UnaryClient, type UnaryClientDeps } from "./unary-client.ts";

/** A far peer; `close` lets go of its connections. */
export type Closing<T> = T & { close(): void };

/** The cost ledger of another process. */
export function createLedgerClient(deps: UnaryClientDeps): Closing<LedgerPeer> {
  const client = new UnaryClient(deps);
  return {
    exportEntries: async function* (filter) {
      for await (const { entries } of client.stream(LedgerService.method.exportEntries, filter)) yield entries;
    },
    costs: async (query) => (await client.call(LedgerService.method.listCosts, { ...query, by: [...query.by] })).rows,
    priceBook: async () => present((await client.call(LedgerService.method.getPriceBook, {})).book, "price book"),
    summary: () => client.call(LedgerService.method.getSummary, {}),
    verify: async (progress) => {
      for await (const { entries, report } of client.stream(LedgerService.method.verifyLedger, {})) {
        if (report !== undefined) return report;
        progress?.(entries);
      }
      throw incomplete("report");
    },
    reconcile: async (query) => {
      const differences: InvoiceDifference[] = [];
      const request = { ...query, lines: [...query.lines], only: [...query.only] };
      for await (const answer of client.stream(LedgerService.method.reconcileInvoice, request)) {
        differences.push(...answer.differences);
        if (answer.sums !== undefined) return { differences, sums: answer.sums };
      }
      throw incomplete("sums");
    },
    leaseBudget: (request) => client.call(LedgerService.method.leaseBudget, request),
    budgets: async (tenant) => (await client.call(LedgerService.method.listBudgets, { tenant: tenant ?? "" })).budgets,
    recordScore: (request) => client.call(LedgerService.method.recordScore, request),
    scores: async (experiment) => (await client.call(LedgerService.method.listScores, { experiment })).sums,
    close: () => client.close(),
  };
}

/** Control state of another process. */
export function createControlClient(deps: UnaryClientDeps): Closing<ControlPeer> {
  const client = new UnaryClient(deps);
  return {
    createKey: (request) => client.call(ControlService.method.createKey, request),
    listKeys: async (tenant) => (await client.call(ControlService.method.listKeys, { tenant: tenant ?? "" })).keys,
    revokeKey: async (keyId) => present((await client.call(ControlService.method.revokeKey, { keyId })).record, "key"),
    rotateKey: (keyId, graceMs) => client.call(ControlService.method.rotateKey, { keyId, graceMs }),
    setDrain: async (backend, drained) => (await client.call(ControlService.method.setDrain, { backend, drained })).drainedBackends,
    startExperiment: async (request) => experimentOf(await client.call(ControlService.method.startExperiment, request)),
    setExperimentWeights: async (request) => experimentOf(await client.call(ControlService.method.setExperimentWeights, request)),
    rollbackExperiment: async (request) => experimentOf(await client.call(ControlService.method.rollbackExperiment, request)),
    promoteExperiment: async (request) => experimentOf(await client.call(ControlService.method.promoteExperiment, request)),
    pauseExperiment: async (request) => experimentOf(await client.call(ControlService.method.pauseExperiment, request)),
    compareExperiment: async (name) =>
      present((await client.call(ControlService.method.compareExperiment, { name })).comparison, "comparison"),
    listModels: async () => (await client.call(ControlService.method.listModels, {})).models,
    rollbackModel: async (request) => present((await client.call(ControlService.method.rollbackModel, request)).model, "model"),
    replicas: async () => (await client.call(ControlService.method.listReplicas, {})).replicas,
    report: async (request) => (await client.call(ControlService.method.report, request)).state,
    listExperiments: async () => (await client.call(ControlService.method.listExperiments, {})).experiments,
    state: async (knownRevision) => (await client.call(ControlService.method.getControlState, { knownRevision })).state,
    close: () => client.close(),
  };
}

/** The health monitor of another process. */
export function createHealthClient(deps: UnaryClientDeps): Closing<HealthPeer> {
  const client = new UnaryClient(deps);
  return {
    snapshot: async () => present((await client.call(HealthService.method.getSnapshot, {})).snapshot, "snapshot"),
    close: () => client.close(),
  };
}

/** Explanations from the policy engines of other processes. */
export function createExplainClient(deps: UnaryClientDeps): Closing<ExplainPeer> {
  const client = new UnaryClient(deps);
  return {
    // a record lives with the engine that decided
    explain: async (request) => (await client.call(PolicyService.method.explain, request, ({ record }) => record !== undefined)).record,
    close: () => client.close(),
  };
}

function experimentOf(answer: { readonly experiment?: ExperimentRecord | undefined }): ExperimentRecord {
  return present(answer.experiment, "experiment");
}

function present<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw incomplete(what);
  return value;
}

function incomplete(what: string): SignalboxError {
  return new SignalboxError("INTERNAL", `the answer holds no ${what}`);
}
