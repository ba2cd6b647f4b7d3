import { hash, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ControlStateSchema, type ReportRequest, ReportRequestSchema } from "#gen/signalbox/control/v1/control_service_pb.ts";
import { ControlAppliedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import type { EventBus, Subscription } from "#libs/bus/bus.ts";
import { SUBJECTS } from "#libs/bus/subjects.ts";
import type { Clock, Timer } from "#libs/clock/index.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { type AnswerStatus, type ControlPeer, type ControlState, FirstAnswer, type KeyRecord } from "#libs/peers/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import { CONTROL_POLL_MS, KEY_MAX, START_WAIT_MS } from "./limits.ts";
import { withinMs } from "./within.ts";

/** This process, in what replicas tell of themselves. */
const ROLE = "ingress";

/** Keys remembered as proven; beyond it they are proven again. */
const RECENT_MAX = 1_000;

/** Who calls, as far as the gateway cares. */
export interface Caller {
  readonly tenant: string;
  readonly team: string;
  /** Empty in open mode without a known key. */
  readonly keyId: string;
  /** Models the key allows; undefined = all. */
  readonly models: ReadonlySet<string> | undefined;
  /** Highest class the key may ask for (RequestClass number); 0 = any. */
  readonly maxClass: number;
  readonly mayForceArm: boolean;
}

/** A place for the last control state (key digests, never keys). */
export interface StateStore {
  load(): Promise<Uint8Array | undefined>;
  save(bytes: Uint8Array): Promise<void>;
}

/** The caller of open mode without a known key. */
export const OPEN_CALLER: Caller = { tenant: "default", team: "", keyId: "", models: undefined, maxClass: 0, mayForceArm: true };

/** The key a request presents: `authorization: Bearer`, else `x-api-key`; undefined = none. */
export function presentedKey(headers: IncomingHttpHeaders): string | undefined {
  const authorization = headers.authorization;
  if (authorization !== undefined && authorization.length > 7 && authorization.slice(0, 7).toLowerCase() === "bearer ") {
    return authorization.slice(7).trim();
  }
  const key = headers["x-api-key"];
  return typeof key === "string" && key !== "" ? key : undefined;
}

interface KnownKey {
  readonly digest: Uint8Array;
  readonly record: KeyRecord;
  readonly caller: Caller;
}

function callerOf(record: KeyRecord): Caller {
  return {
    tenant: record.tenant,
    team: record.team,
    keyId: record.keyId,
    models: record.models.length > 0 ? new Set(record.models) : undefined,
    maxClass: record.maxClass,
    mayForceArm: record.mayForceArm,
  };
}

/** What {@link KeyBook} needs. */
export interface KeyBookDeps {
  readonly clock: Clock;
  readonly bus: EventBus;
  readonly control: ControlPeer;
  readonly logger: Logger;
  readonly stateStore?: StateStore;
  /** Names this process to whoever changes the state and waits until everybody has it. */
  readonly replica: string;
}

/**
 * The keys in force: pushed over the bus, polled every 2 s, remembered in the state store. Lookup is by the digest of the
 * whole key, so that nothing shorter can ever stand for it.
 */
export class KeyBook {
  readonly #deps: KeyBookDeps;
  #keys = new Map<string, KnownKey>();
  /** Keys proven since the last state, whole: hashing one costs as much as all the rest of authentication. */
  readonly #recent = new Map<string, KnownKey>();
  #revision = 0n;
  #loaded = false;
  #adoptedAtMs = 0;
  /** Whether the last poll reached the store: only then is an unknown key surely unknown. */
  #current = false;
  #polling = false;
  readonly #first: FirstAnswer;
  #timer: Timer | undefined;
  #subscription: Subscription | undefined;
  readonly #listeners: ((state: ControlState) => void)[] = [];

  constructor(deps: KeyBookDeps) {
    this.#deps = deps;
    this.#first = new FirstAnswer(deps.clock, {
      missing: "no key was ever loaded",
      answered: () => this.#loaded,
      ask: () => this.poll(),
    });
  }

  /** Loads the last state, subscribes, asks once. Resolves as soon as one of both answered; never rejects. */
  async start(): Promise<void> {
    await this.#restore();
    this.#subscription = this.#deps.bus.subscribe(SUBJECTS.controlChanged, (message) => this.#pushed(message.payload));
    this.#timer = this.#deps.clock.every(CONTROL_POLL_MS, () => void this.poll());
    if (this.#loaded) void this.poll();
    else await withinMs(this.#deps.clock, START_WAIT_MS, this.#first.start());
  }

  stop(): void {
    this.#timer?.cancel();
    this.#first.stop();
    this.#subscription?.close();
  }

  /** For readiness: without any key the caller's cannot be told from a wrong one; with old ones known callers are served. */
  status(): AnswerStatus {
    if (!this.#loaded) return this.#first.status();
    return this.#current ? { state: "ok" } : { state: "degraded", detail: "keys come from the last known state" };
  }

  /** Calls `listener` with every state taken over. */
  onState(listener: (state: ControlState) => void): void {
    this.#listeners.push(listener);
  }

  /** Asks the control peer for anything newer. One question at a time. */
  async poll(): Promise<void> {
    if (this.#polling) return;
    this.#polling = true;
    const known = this.#revision;
    try {
      const state = await this.#deps.control.report(this.#report(this.#loaded ? known : 0n));
      this.#current = state?.unconfirmed !== true;
      if (state === undefined) this.#loaded = true;
      else if (this.#revision === known || state.revision > this.#revision) {
        this.#adopt(state, true);
        // The bus may be away: then only another report tells that the state has arrived.
        if (state.revision !== known) this.#deps.control.report(this.#report(this.#revision)).catch(() => undefined);
      }
    } catch {
      this.#current = false;
    } finally {
      this.#polling = false;
    }
  }

  /**
   * The caller of a key. Throws UNAUTHENTICATED when the key is bad, KEY_STORE_UNAVAILABLE when that cannot be known now.
   * In open mode an unknown key, or none, is tenant `default` (decision 22).
   */
  identify(key: string | undefined, mode: "open" | "keys", nowMs: number): Caller {
    const known = key === undefined || key.length > KEY_MAX ? undefined : this.#find(key);
    if (known !== undefined && isValid(known.record, nowMs)) return known.caller;
    if (mode === "open") return OPEN_CALLER;
    if (key === undefined) throw new SignalboxError("UNAUTHENTICATED", "You did not provide an API key: send 'authorization: Bearer KEY'.");
    if (known !== undefined) throw new SignalboxError("UNAUTHENTICATED", "The API key is revoked or expired.");
    if (!this.#loaded || !this.#current) {
      throw new SignalboxError("KEY_STORE_UNAVAILABLE", "The key cannot be checked at the moment.", { retryAfterMs: CONTROL_POLL_MS });
    }
    throw new SignalboxError("UNAUTHENTICATED", "Incorrect API key provided.");
  }

  #report(appliedRevision: bigint): ReportRequest {
    return create(ReportRequestSchema, { replica: this.#deps.replica, role: ROLE, appliedRevision, appliedAtMs: this.#adoptedAtMs });
  }

  #find(key: string): KnownKey | undefined {
    if (this.#keys.size === 0) return undefined;
    const recent = this.#recent.get(key);
    if (recent !== undefined) return recent;
    const digest = hash("sha256", key, "buffer");
    const known = this.#keys.get(digest.toString("latin1"));
    if (known === undefined || !timingSafeEqual(digest, known.digest)) return undefined;
    if (this.#recent.size >= RECENT_MAX) this.#recent.clear();
    this.#recent.set(key, known);
    return known;
  }

  #pushed(payload: Uint8Array): void {
    try {
      const state = fromBinary(ControlStateSchema, payload);
      if (!this.#loaded || state.revision > this.#revision) this.#adopt(state, true);
      // Who pushes has just asked the store, unless it says otherwise.
      if (state.revision === this.#revision) this.#current = !state.unconfirmed;
    } catch (error) {
      this.#deps.logger.warn({ err: error }, "a control state from the bus cannot be read");
    }
  }

  async #restore(): Promise<void> {
    try {
      const bytes = await this.#deps.stateStore?.load();
      if (bytes !== undefined) this.#adopt(fromBinary(ControlStateSchema, bytes), false);
    } catch (error) {
      this.#deps.logger.warn({ err: error }, "the saved control state cannot be read");
    }
  }

  #adopt(state: ControlState, save: boolean): void {
    const keys = new Map<string, KnownKey>();
    for (const record of state.keys) {
      if (record.digest.length !== 32) continue;
      const caller = callerOf(record);
      keys.set(Buffer.from(record.digest).toString("latin1"), { digest: record.digest, record, caller });
      const { previousDigest, previousUntilMs, expiresAtMs } = record;
      if (previousDigest.length !== 32) continue;
      // The secret before a rotation is a key of its own that expires with its grace.
      const untilMs = expiresAtMs === 0 ? previousUntilMs : Math.min(expiresAtMs, previousUntilMs);
      keys.set(Buffer.from(previousDigest).toString("latin1"), {
        digest: previousDigest,
        record: { ...record, expiresAtMs: untilMs },
        caller,
      });
    }
    this.#keys = keys;
    this.#recent.clear();
    this.#revision = state.revision;
    this.#loaded = true;
    this.#adoptedAtMs = this.#deps.clock.now();
    const { bus, replica } = this.#deps;
    const applied = create(ControlAppliedSchema, { replica, role: ROLE, revision: state.revision, appliedAtMs: this.#adoptedAtMs });
    bus.publish(SUBJECTS.controlApplied, toBinary(ControlAppliedSchema, applied));
    for (const listener of this.#listeners) listener(state);
    if (save) void this.#save(state);
  }

  async #save(state: ControlState): Promise<void> {
    try {
      await this.#deps.stateStore?.save(toBinary(ControlStateSchema, state));
    } catch (error) {
      this.#deps.logger.warn({ err: error }, "the control state cannot be saved");
    }
  }
}

function isValid(record: KeyRecord, nowMs: number): boolean {
  return record.revokedAtMs === 0 && (record.expiresAtMs === 0 || record.expiresAtMs > nowMs);
}

/** Whether a caller may use a model: the key's list and the tenant's, each by asked or resolved name. */
export function isModelAllowed(caller: Caller, tenantModels: readonly string[] | undefined, asked: string, resolved: string): boolean {
  if (caller.models !== undefined && !caller.models.has(asked) && !caller.models.has(resolved)) return false;
  return tenantModels === undefined || tenantModels.includes(asked) || tenantModels.includes(resolved);
}
