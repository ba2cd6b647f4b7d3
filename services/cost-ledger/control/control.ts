import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  ControlStateSchema,
  PauseExperimentRequestSchema,
  RollbackExperimentRequestSchema,
  type ControlState,
} from "#gen/signalbox/control/v1/control_service_pb.ts";
import type { EventBus } from "#libs/bus/bus.ts";
import { SUBJECTS } from "#libs/bus/subjects.ts";
import type { Clock, Random } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { Experiment } from "#libs/experiments/index.ts";
import { ExperimentDesk } from "../experiments/index.ts";
import type {
  ControlPeer,
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
} from "#libs/peers/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import type { LedgerStore, StoredControl } from "../store.ts";
import * as experiments from "./experiments.ts";
import * as models from "./models.ts";
import { Replicas } from "./replicas.ts";
import { makeKey, rotate, withoutDigest } from "./keys.ts";

/** Revoked keys stay in the state this long, so that a replica that was away still learns of it. */
const REVOKED_KEPT_MS = 24 * 3_600_000;
/** Keys of one installation: the whole state travels in one message of at most 1 MiB. */
const KEYS_MAX = 4_000;
/** A state read longer ago than this may lack keys that another replica made, ms: two polls and a second to answer. */
const CONFIRMED_MS = 5_000;
/** Attempts to write over other writers' changes. */
const WRITE_ATTEMPTS = 5;

/** What control needs. */
export interface ControlDeps {
  readonly store: LedgerStore;
  readonly bus: EventBus;
  readonly clock: Clock;
  readonly random: Random;
  readonly config: ConfigSource;
  readonly logger: Logger;
}

/** Keys, drains and stored revisions: one small state with a growing revision, kept by the ledger's store, pushed whole on every change. */
export class Control implements ControlPeer {
  readonly #deps: ControlDeps;
  #current: ControlState | undefined;
  /** When the read or write began that last showed the state to be current; monotonic ms. */
  #confirmedMs = Number.NEGATIVE_INFINITY;
  #polling = false;
  /** Who has applied what. */
  readonly applied: Replicas;
  /** What is seen of experiments, and what follows from it. */
  readonly desk: ExperimentDesk;

  constructor(deps: ControlDeps) {
    this.#deps = deps;
    this.applied = new Replicas(deps.clock);
    this.desk = new ExperimentDesk({
      ...deps,
      stored: () => this.#current?.experiments,
      actions: {
        rollback: async ({ name, revision }, by, reason) => {
          await this.rollbackExperiment(create(RollbackExperimentRequestSchema, { name, by, reason, ifRevision: BigInt(revision) }));
        },
        pause: async ({ name, revision }, by, reason) => {
          await this.pauseExperiment(create(PauseExperimentRequestSchema, { name, by, reason, ifRevision: BigInt(revision) }));
        },
        advance: async (experiment, _arm, share) => {
          await this.#changeIfAny(experiment.name, (state, scene) => experiments.advanceExperiment(state, scene, experiment, share));
        },
      },
    });
  }

  /** The last state read or written; undefined before the store answered once. */
  get current(): ControlState | undefined {
    return this.#current;
  }

  /** Reads the stored state again and publishes it when it is news. */
  async refresh(): Promise<void> {
    const known = this.#current?.revision;
    await this.#load();
    if (this.#current!.revision !== known) this.publish();
  }

  /** Refreshes unless the last poll still waits for its answer: a slow store is not asked more often. Failures say so through the store. */
  async poll(): Promise<void> {
    if (this.#polling) return;
    this.#polling = true;
    try {
      await this.refresh();
    } catch {
      // The next poll tries again.
    } finally {
      this.#polling = false;
    }
  }

  /** Pushes the whole state. Does nothing before the first load. */
  publish(): void {
    if (this.#current) this.#deps.bus.publish(SUBJECTS.controlChanged, toBinary(ControlStateSchema, this.#marked(this.#current)));
  }

  /** Whether the state is surely the stored one. The embedded store has one writer: this process. */
  get #isConfirmed(): boolean {
    const { store, clock } = this.#deps;
    return store.up && (store.kind !== "postgres" || clock.monotonicMs() - this.#confirmedMs < CONFIRMED_MS);
  }

  #marked(state: ControlState): ControlState {
    return this.#isConfirmed ? state : { ...state, unconfirmed: true };
  }

  async createKey(request: CreateKeyRequest): Promise<CreateKeyResponse> {
    const { key, record } = makeKey(request, this.#deps.random, this.#deps.clock.now());
    await this.#change((state) => {
      const valid = state.keys.filter((each) => each.revokedAtMs === 0);
      if (valid.length >= KEYS_MAX) throw new SignalboxError("REQUEST_MALFORMED", `at most ${KEYS_MAX} keys: revoke some`);
      state.keys.push(record);
    });
    return { $typeName: "signalbox.control.v1.CreateKeyResponse", key, record: withoutDigest(record) };
  }

  async listKeys(tenant?: string): Promise<readonly KeyRecord[]> {
    const state = await this.#fresh();
    return state.keys.filter((key) => tenant === undefined || key.tenant === tenant).map(withoutDigest);
  }

  async revokeKey(keyId: string): Promise<KeyRecord> {
    let revoked: KeyRecord | undefined;
    await this.#change((state) => {
      revoked = state.keys.find((key) => key.keyId === keyId);
      if (revoked === undefined) throw new SignalboxError("ROUTE_UNKNOWN", `no key ${keyId}`, { code: "key_not_found", param: "id" });
      if (revoked.revokedAtMs === 0) revoked.revokedAtMs = this.#deps.clock.now();
    });
    return withoutDigest(revoked!);
  }

  async rotateKey(keyId: string, graceMs: number): Promise<RotateKeyResponse> {
    const { random, clock } = this.#deps;
    let rotated: KeyRecord | undefined;
    let secret = "";
    await this.#change((state) => {
      rotated = state.keys.find((key) => key.keyId === keyId);
      if (rotated === undefined) throw new SignalboxError("ROUTE_UNKNOWN", `no key ${keyId}`, { code: "key_not_found", param: "id" });
      if (rotated.revokedAtMs !== 0) throw new SignalboxError("REQUEST_MALFORMED", `key ${keyId} is revoked`, { param: "id" });
      secret = rotate(rotated, graceMs, random, clock.now());
    });
    return { $typeName: "signalbox.control.v1.RotateKeyResponse", key: secret, record: withoutDigest(rotated!) };
  }

  async setDrain(backend: string, drained: boolean): Promise<readonly string[]> {
    if (drained && !this.#deps.config.current.backends.has(backend)) {
      throw new SignalboxError("ROUTE_UNKNOWN", `no backend ${backend}`, { code: "backend_not_found", param: "backend" });
    }
    const state = await this.#change((next) => {
      const others = next.drainedBackends.filter((name) => name !== backend);
      next.drainedBackends = drained ? [...others, backend].toSorted((a, b) => (a < b ? -1 : 1)) : others;
    });
    return state.drainedBackends;
  }

  startExperiment(request: StartExperimentRequest): Promise<ExperimentRecord> {
    return this.#changeExperiment((state, scene) => experiments.startExperiment(state, scene, request));
  }

  setExperimentWeights(request: SetExperimentWeightsRequest): Promise<ExperimentRecord> {
    return this.#changeExperiment((state, scene) => experiments.setExperimentWeights(state, scene, request));
  }

  rollbackExperiment(request: RollbackExperimentRequest): Promise<ExperimentRecord> {
    return this.#changeIfAny(request.name, (state, scene) => experiments.rollbackExperiment(state, scene, request));
  }

  pauseExperiment(request: PauseExperimentRequest): Promise<ExperimentRecord> {
    return this.#changeIfAny(request.name, (state, scene) => experiments.pauseExperiment(state, scene, request));
  }

  compareExperiment(name: string): Promise<ExperimentComparison> {
    return this.desk.compare(name);
  }

  async listModels(): Promise<readonly ModelRecord[]> {
    return models.listModels(await this.#fresh(), this.#scene());
  }

  async rollbackModel(request: RollbackModelRequest): Promise<ModelRecord> {
    let promoted: string | undefined;
    const state = await this.#change((next) => {
      promoted = models.rollbackModel(next, this.#scene(), request);
    });
    if (promoted === undefined) return models.modelRecord(state, this.#scene(), request.name);
    const { by } = request;
    const reason = request.reason || `model ${request.name} rolled back`;
    await this.rollbackExperiment(create(RollbackExperimentRequestSchema, { name: promoted, by, reason }));
    return models.modelRecord(this.#current!, this.#scene(), request.name);
  }

  /** Notes models of the file that are news, so that they can be taken back. */
  async noteModels(): Promise<void> {
    const copy = copyOf(await this.#fresh());
    if (models.noteModels(copy, this.#scene())) await this.#change((next) => void models.noteModels(next, this.#scene()));
  }

  async report({ replica, role, appliedRevision, appliedAtMs, observations }: ReportRequest): Promise<ControlState | undefined> {
    this.applied.heard({ replica, role, revision: appliedRevision, appliedAtMs });
    if (observations.length > 0) this.desk.observe(replica, observations);
    return this.state(appliedRevision);
  }

  async replicas(): Promise<readonly Replica[]> {
    return this.applied.list();
  }

  promoteExperiment(request: PromoteExperimentRequest): Promise<ExperimentRecord> {
    return this.#changeExperiment((state, scene) => experiments.promoteExperiment(state, scene, request));
  }

  async listExperiments(): Promise<readonly ExperimentRecord[]> {
    return experiments.listExperiments(await this.#fresh(), this.#scene());
  }

  async state(knownRevision: bigint): Promise<ControlState | undefined> {
    const state = this.#current ?? (await this.#fresh());
    if (state.revision !== knownRevision) return this.#marked(state);
    if (!this.#isConfirmed) throw new SignalboxError("KEY_STORE_UNAVAILABLE", "the key store does not answer");
    return undefined;
  }

  #scene(): experiments.ExperimentScene {
    return { config: this.#deps.config.current, nowMs: this.#deps.clock.now() };
  }

  /** A change that may find nothing to do (every engine's guard may ask for the same): then the experiment stays as it is. */
  async #changeIfAny(
    name: string,
    apply: (state: ControlState, scene: experiments.ExperimentScene) => Experiment | undefined,
  ): Promise<ExperimentRecord> {
    const now = await this.#fresh();
    const scene = this.#scene();
    if (apply(copyOf(now), scene) === undefined) return experiments.recordOf(experiments.find(now, scene, name), now.revision);
    return this.#changeExperiment((state, each) => apply(state, each) ?? experiments.find(state, each, name));
  }

  async #changeExperiment(apply: (state: ControlState, scene: experiments.ExperimentScene) => Experiment): Promise<ExperimentRecord> {
    let changed: Experiment | undefined;
    const { revision } = await this.#change((state) => {
      changed = apply(state, this.#scene());
    });
    return experiments.recordOf(changed!, revision);
  }

  /** Applies a change to the newest state, writes it, and pushes it. Starts over when another writer was first. */
  async #change(apply: (next: ControlState) => void): Promise<ControlState> {
    for (let attempt = 1; attempt <= WRITE_ATTEMPTS; attempt++) {
      const startedMs = this.#deps.clock.monotonicMs();
      const before = await this.#fresh();
      const next = copyOf(before);
      apply(next);
      const oldest = this.#deps.clock.now() - REVOKED_KEPT_MS;
      next.keys = next.keys.filter((key) => key.revokedAtMs === 0 || key.revokedAtMs > oldest);
      next.revision = before.revision + 1n;
      const stored = { revision: next.revision, state: toBinary(ControlStateSchema, next) };
      if (!(await this.#guard(this.#deps.store.saveControl(before.revision, stored)))) continue;
      this.#current = next;
      this.#confirmedMs = startedMs;
      this.publish();
      return next;
    }
    throw new SignalboxError("KEY_STORE_UNAVAILABLE", "the control state changes too fast");
  }

  async #fresh(): Promise<ControlState> {
    await this.#load();
    return this.#current!;
  }

  async #load(): Promise<void> {
    const startedMs = this.#deps.clock.monotonicMs();
    const stored = (await this.#guard(this.#deps.store.loadControl())) ?? (await this.#guard(this.#first()));
    this.#confirmedMs = startedMs;
    if (stored.revision !== this.#current?.revision) this.#current = fromBinary(ControlStateSchema, stored.state);
  }

  /** The first state has revision 1: "no keys" is an answer, and different from none. */
  async #first(): Promise<StoredControl> {
    const revision = 1n;
    const first = { revision, state: toBinary(ControlStateSchema, create(ControlStateSchema, { revision })) };
    await this.#deps.store.saveControl(0n, first);
    return (await this.#deps.store.loadControl()) ?? first;
  }

  async #guard<T>(answer: Promise<T>): Promise<T> {
    try {
      return await answer;
    } catch (cause) {
      throw new SignalboxError("KEY_STORE_UNAVAILABLE", "the key store does not answer", { cause });
    }
  }
}

function copyOf(state: ControlState): ControlState {
  return fromBinary(ControlStateSchema, toBinary(ControlStateSchema, state));
}
