import { create } from "@bufbuild/protobuf";
import {
  CompareExperimentResponseSchema,
  ControlService,
  CreateKeyResponseSchema,
  GetControlStateResponseSchema,
  ListExperimentsResponseSchema,
  ListKeysResponseSchema,
  ListModelsResponseSchema,
  ListReplicasResponseSchema,
  PauseExperimentResponseSchema,
  PromoteExperimentResponseSchema,
  ReportResponseSchema,
  RevokeKeyResponseSchema,
  RollbackExperimentResponseSchema,
  RollbackModelResponseSchema,
  SetDrainResponseSchema,
  SetExperimentWeightsResponseSchema,
  StartExperimentResponseSchema,
} from "#gen/signalbox/control/v1/control_service_pb.ts";
import {
  ExportEntriesResponseSchema,
  GetPriceBookResponseSchema,
  LedgerService,
  ListBudgetsResponseSchema,
  ListCostsResponseSchema,
  ListScoresResponseSchema,
  ReconcileInvoiceResponseSchema,
  VerifyLedgerResponseSchema,
  type VerifyLedgerResponse,
} from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import type { ControlPeer, EntryFilter, LedgerPeer } from "#libs/peers/index.ts";
import { rpcService, type RpcService } from "#libs/rpc/service.ts";

/** Differences of an invoice in one message. */
const DIFFERENCES_PER_MESSAGE = 1_000;

/** The ledger's API over RPC. */
export function ledgerRpc(host: { readonly ledger: LedgerPeer }): RpcService {
  const { ledger } = host;
  return rpcService(LedgerService, {
    async *exportEntries(request) {
      const filter: EntryFilter = {
        ...(request.sinceMs > 0 ? { sinceMs: request.sinceMs } : {}),
        ...(request.untilMs > 0 ? { untilMs: request.untilMs } : {}),
        ...(request.tenant === "" ? {} : { tenant: request.tenant }),
        afterSequence: request.afterSequence,
      };
      for await (const entries of ledger.exportEntries(filter)) yield create(ExportEntriesResponseSchema, { entries: [...entries] });
    },
    async listCosts(request) {
      const rows = await ledger.costs({
        by: request.by,
        ...(request.sinceMs > 0 ? { sinceMs: request.sinceMs } : {}),
        ...(request.untilMs > 0 ? { untilMs: request.untilMs } : {}),
        ...(request.limit > 0 ? { limit: request.limit } : {}),
        unpricedOnly: request.unpricedOnly,
      });
      return create(ListCostsResponseSchema, { rows: [...rows] });
    },
    async getPriceBook() {
      return create(GetPriceBookResponseSchema, { book: await ledger.priceBook() });
    },
    getSummary: () => ledger.summary(),
    async *verifyLedger() {
      yield* verification(ledger);
    },
    async *reconcileInvoice(request) {
      const { differences, sums } = await ledger.reconcile({
        lines: request.lines,
        only: request.only,
        ...(request.sinceMs > 0 ? { sinceMs: request.sinceMs } : {}),
        ...(request.untilMs > 0 ? { untilMs: request.untilMs } : {}),
      });
      for (let at = 0; at < differences.length; at += DIFFERENCES_PER_MESSAGE)
        yield create(ReconcileInvoiceResponseSchema, { differences: differences.slice(at, at + DIFFERENCES_PER_MESSAGE) });
      yield create(ReconcileInvoiceResponseSchema, { sums });
    },
    leaseBudget: (request) => ledger.leaseBudget(request),
    async listBudgets(request) {
      return create(ListBudgetsResponseSchema, { budgets: [...(await ledger.budgets(request.tenant))] });
    },
    recordScore: (request) => ledger.recordScore(request),
    async listScores(request) {
      return create(ListScoresResponseSchema, { sums: [...(await ledger.scores(request.experiment))] });
    },
  });
}

/** Progress as it comes, then the report. Progress that nobody has read yet is replaced by newer. */
async function* verification(ledger: LedgerPeer): AsyncGenerator<VerifyLedgerResponse> {
  let wake = (): void => {};
  let entries = 0n;
  let ended = false;
  const report = ledger
    .verify((walked) => {
      entries = walked;
      wake();
    })
    .finally(() => {
      ended = true;
      wake();
    });
  // Looked at below; until then its failure is nobody's surprise.
  report.catch(() => undefined);
  for (let told = 0n; !ended;) {
    if (entries === told) await new Promise<void>((resolve) => (wake = resolve));
    if (ended) break;
    told = entries;
    yield create(VerifyLedgerResponseSchema, { entries });
  }
  const found = await report;
  yield create(VerifyLedgerResponseSchema, { entries: found.entries, report: found });
}

/** Control state over RPC. Secrets leave only in the answer to CreateKey, digests only in the whole state. */
export function controlRpc(host: { readonly control: ControlPeer }): RpcService {
  const { control } = host;
  return rpcService(ControlService, {
    async createKey(request) {
      return create(CreateKeyResponseSchema, await control.createKey(request));
    },
    async listKeys(request) {
      const keys = await control.listKeys(request.tenant === "" ? undefined : request.tenant);
      return create(ListKeysResponseSchema, { keys: [...keys] });
    },
    async revokeKey(request) {
      return create(RevokeKeyResponseSchema, { record: await control.revokeKey(request.keyId) });
    },
    rotateKey: (request) => control.rotateKey(request.keyId, request.graceMs),
    async setDrain(request) {
      const drainedBackends = await control.setDrain(request.backend, request.drained);
      return create(SetDrainResponseSchema, { drainedBackends: [...drainedBackends] });
    },
    startExperiment: async (request) => create(StartExperimentResponseSchema, { experiment: await control.startExperiment(request) }),
    setExperimentWeights: async (request) =>
      create(SetExperimentWeightsResponseSchema, { experiment: await control.setExperimentWeights(request) }),
    rollbackExperiment: async (request) =>
      create(RollbackExperimentResponseSchema, { experiment: await control.rollbackExperiment(request) }),
    promoteExperiment: async (request) => create(PromoteExperimentResponseSchema, { experiment: await control.promoteExperiment(request) }),
    async pauseExperiment(request) {
      return create(PauseExperimentResponseSchema, { experiment: await control.pauseExperiment(request) });
    },
    async compareExperiment(request) {
      return create(CompareExperimentResponseSchema, { comparison: await control.compareExperiment(request.name) });
    },
    async listModels() {
      return create(ListModelsResponseSchema, { models: [...(await control.listModels())] });
    },
    async rollbackModel(request) {
      return create(RollbackModelResponseSchema, { model: await control.rollbackModel(request) });
    },
    async listReplicas() {
      return create(ListReplicasResponseSchema, { replicas: [...(await control.replicas())] });
    },
    async report(request) {
      const state = await control.report(request);
      return create(ReportResponseSchema, state ? { state } : {});
    },
    async listExperiments() {
      return create(ListExperimentsResponseSchema, { experiments: [...(await control.listExperiments())] });
    },
    async getControlState(request) {
      const state = await control.state(request.knownRevision);
      return create(GetControlStateResponseSchema, state ? { state } : {});
    },
  });
}
