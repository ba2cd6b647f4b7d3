import { create, fromBinary } from "@bufbuild/protobuf";
import { AttemptEndSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { type AdapterAnnounced, AdapterAnnouncedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { type EventBus, type Subscription, SUBJECTS } from "#libs/bus/index.ts";
import type { Timer } from "#libs/clock/index.ts";
import type { AdapterPeer, AttemptHandle, AttemptOpen, AttemptSink } from "#libs/peers/index.ts";
import { AddressBook } from "./addresses.ts";
import { Replica } from "./replica.ts";
import type { LinkDeps } from "./stream-link.ts";

/** A replica nobody has heard of for this long is asked itself, or forgotten when its stream is gone too, ms. */
const SILENT_MS = 3_000;

/** How often silence is looked for, ms. */
const LOOK_EVERY_MS = 1_000;

/** Replicas one ingress keeps streams to. */
const REPLICAS_MAX = 512;

/** What a far adapter client needs. */
export interface AdapterClientDeps extends LinkDeps {
  /** host:port or dns:///name:port; replicas also announce themselves on the bus. */
  readonly addresses?: readonly string[];
  readonly bus: EventBus;
}

/** The adapters of other processes behind the interface of a near one. */
export function createAdapterClient(deps: AdapterClientDeps): AdapterPeer & { close(): void } {
  return new AdapterClient(deps);
}

class AdapterClient implements AdapterPeer {
  readonly #deps: AdapterClientDeps;
  readonly #replicas = new Map<string, Replica>();
  readonly #book: AddressBook;
  readonly #announcements: Subscription;
  readonly #timer: Timer;
  #static: ReadonlySet<string> = new Set();
  #turn = 0;

  constructor(deps: AdapterClientDeps) {
    this.#deps = deps;
    this.#book = new AddressBook(deps.addresses ?? [], deps.clock, (addresses) => {
      this.#static = new Set(addresses);
      for (const address of addresses) this.#replicaAt(address);
    });
    this.#announcements = deps.bus.subscribe(SUBJECTS.adapterAnnounced, (message) => this.#announced(message.payload));
    this.#timer = deps.clock.every(LOOK_EVERY_MS, () => this.#look());
  }

  serves(backend: string): boolean {
    for (const replica of this.#replicas.values()) if (replica.takes(backend)) return true;
    return false;
  }

  attempt(open: AttemptOpen, sink: AttemptSink): AttemptHandle {
    const replica = this.#pick(open.backend);
    return replica ? replica.attempt(open, sink) : refused(open.backend, sink);
  }

  close(): void {
    this.#timer.cancel();
    this.#announcements.close();
    this.#book.close();
    for (const replica of this.#replicas.values()) replica.close();
    this.#replicas.clear();
  }

  /** The connected replica with the least of our attempts in flight; among equals the least busy one, then in turn. */
  #pick(backend: string): Replica | undefined {
    let best: Replica | undefined;
    let ties = 0;
    for (const replica of this.#replicas.values()) {
      if (!replica.takes(backend)) continue;
      const order = best ? replica.inFlight - best.inFlight || replica.announcedInFlight - best.announcedInFlight : -1;
      if (order < 0) ties = 1;
      else if (order === 0) ties++;
      if (order < 0 || (order === 0 && this.#turn % ties === 0)) best = replica;
    }
    this.#turn = (this.#turn + 1) % 0x3fff_ffff;
    return best;
  }

  #announced(payload: Uint8Array): void {
    let said: AdapterAnnounced;
    try {
      said = fromBinary(AdapterAnnouncedSchema, payload);
    } catch (cause) {
      this.#deps.logger.warn({ err: cause }, "an adapter announcement could not be read");
      return;
    }
    if (said.leaving && !this.#replicas.has(said.address)) return;
    const replica = this.#replicaAt(said.address);
    if (!replica || (said.replica === replica.id && said.sequence < replica.sequence)) return;
    replica.sequence = said.sequence;
    replica.update(said, this.#deps.clock.monotonicMs());
  }

  #replicaAt(address: string): Replica | undefined {
    const known = this.#replicas.get(address);
    if (known) return known;
    if (address === "" || this.#replicas.size >= REPLICAS_MAX) return undefined;
    const { clock, random, logger, tls } = this.#deps;
    const replica = new Replica(address, { clock, random, logger, tls }, (opened) => this.#describe(opened));
    this.#replicas.set(address, replica);
    return replica;
  }

  /** The bus may be silent while the streams stand: then the replicas themselves are asked. */
  #look(): void {
    const nowMs = this.#deps.clock.monotonicMs();
    for (const [address, replica] of this.#replicas) {
      if (nowMs - replica.heardAtMs < SILENT_MS) continue;
      if (replica.connected) this.#describe(replica);
      else if (!this.#static.has(address)) {
        this.#replicas.delete(address);
        replica.close();
      }
    }
  }

  #describe(replica: Replica): void {
    replica.describe().then(
      (state) => {
        if (state && this.#replicas.get(replica.address) === replica) replica.update(state, this.#deps.clock.monotonicMs());
      },
      (cause: unknown) => this.#deps.logger.debug({ err: cause, address: replica.address }, "a replica could not be described"),
    );
  }
}

/** No replica serves the backend: the attempt ends at once, and no byte of it can have been processed. */
function refused(backend: string, sink: AttemptSink): AttemptHandle {
  queueMicrotask(() =>
    sink.end(
      create(AttemptEndSchema, {
        outcome: Outcome.FAILED,
        error: { reason: "UPSTREAM_UNAVAILABLE", message: `no provider adapter serves ${backend}`, untouched: true },
      }),
    ),
  );
  return { replica: "", consumed: () => {}, cancel: () => {} };
}
