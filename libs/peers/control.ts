import type {
  ControlState,
  CreateKeyRequest,
  CreateKeyResponse,
  ExperimentComparison,
  ExperimentRecord,
  KeyRecord,
  ModelRecord,
  PauseExperimentRequest,
  PromoteExperimentRequest,
  Replica,
  ReportRequest,
  RollbackExperimentRequest,
  RollbackModelRequest,
  RotateKeyResponse,
  SetExperimentWeightsRequest,
  StartExperimentRequest,
} from "#gen/signalbox/control/v1/control_service_pb.ts";

export type { ControlState, CreateKeyRequest, CreateKeyResponse, ExperimentRecord, KeyRecord, RotateKeyResponse };
export type {
  ExperimentComparison,
  ModelRecord,
  PauseExperimentRequest,
  PromoteExperimentRequest,
  Replica,
  ReportRequest,
  RollbackExperimentRequest,
  RollbackModelRequest,
  SetExperimentWeightsRequest,
  StartExperimentRequest,
};

/** Changes and lists experiments. Changes reject with ROUTE_UNKNOWN when there is none of that name, REQUEST_MALFORMED when they make no sense. */
export interface ExperimentControl {
  startExperiment(request: StartExperimentRequest): Promise<ExperimentRecord>;
  setExperimentWeights(request: SetExperimentWeightsRequest): Promise<ExperimentRecord>;
  /** Answers with the revision in force; one that is rolled back already, or another than `ifRevision`, stays as it is. */
  rollbackExperiment(request: RollbackExperimentRequest): Promise<ExperimentRecord>;
  /** Shares stay and the plan stops; answers like {@link rollbackExperiment}. */
  pauseExperiment(request: PauseExperimentRequest): Promise<ExperimentRecord>;
  promoteExperiment(request: PromoteExperimentRequest): Promise<ExperimentRecord>;
  listExperiments(): Promise<readonly ExperimentRecord[]>;
  /** Arms side by side, over all engines. */
  compareExperiment(name: string): Promise<ExperimentComparison>;
  /** Models with their revisions. */
  listModels(): Promise<readonly ModelRecord[]>;
  /** Takes back a model's last revision, or the promotion of an experiment on it if that came later. */
  rollbackModel(request: RollbackModelRequest): Promise<ModelRecord>;
  /** Replicas heard of lately with the revision of the control state that each has applied. */
  replicas(): Promise<readonly Replica[]>;
}

/** Control state, near or far; lives with the ledger's store. Changes are also published on the bus as whole states. */
export interface ControlPeer extends ExperimentControl {
  createKey(request: CreateKeyRequest): Promise<CreateKeyResponse>;
  listKeys(tenant?: string): Promise<readonly KeyRecord[]>;
  /** Rejects with ROUTE_UNKNOWN when there is no such key. */
  revokeKey(keyId: string): Promise<KeyRecord>;
  /** Gives a key a new secret; the old one works on for `graceMs`. Rejects like {@link revokeKey}. */
  rotateKey(keyId: string, graceMs: number): Promise<RotateKeyResponse>;
  setDrain(backend: string, drained: boolean): Promise<readonly string[]>;
  /**
   * The state, or undefined when `knownRevision` is current. While the store does not answer: the last state marked
   * `unconfirmed`, or KEY_STORE_UNAVAILABLE where that one is known.
   */
  state(knownRevision: bigint): Promise<ControlState | undefined>;
  /** The same, telling who asks, what it has applied and what it saw of experiments. */
  report(request: ReportRequest): Promise<ControlState | undefined>;
}
