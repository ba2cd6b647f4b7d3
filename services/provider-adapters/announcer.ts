import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { AdapterAnnouncedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import { type EventBus, type Subscription, SUBJECTS } from "#libs/bus/index.ts";
import type { Clock, Timer } from "#libs/clock/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";

/** How often a replica says that it is there. */
const ANNOUNCE_PERIOD_MS = 1_000;

/** A replica unheard of for this long is gone: three announcements may be lost. */
const REPLICA_TTL_MS = 3_500;

/** Replicas remembered; more than that is a fault of the bus. */
const REPLICAS_MAX = 1_000;

/** What a replica says of itself. */
export interface OwnState {
  readonly replica: string;
  readonly address: string;
  backends(): readonly string[];
  inFlight(): number;
  leaving(): boolean;
}

interface Peer {
  readonly backends: ReadonlySet<string>;
  readonly heardMs: number;
}

/** Announces this replica on the bus and hears the others, so that each takes its share of a backend's bound. */
export class Announcer {
  readonly #bus: EventBus;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #own: OwnState;
  readonly #changed: () => void;
  readonly #peers = new Map<string, Peer>();
  #sequence = 0n;
  #timer: Timer | undefined;
  #subscription: Subscription | undefined;

  /** `changed` is called when the number of other replicas serving something may have changed. */
  constructor(deps: { readonly bus: EventBus; readonly clock: Clock; readonly logger: Logger }, own: OwnState, changed: () => void) {
    this.#bus = deps.bus;
    this.#clock = deps.clock;
    this.#logger = deps.logger;
    this.#own = own;
    this.#changed = changed;
  }

  start(): void {
    this.#subscription = this.#bus.subscribe(SUBJECTS.adapterAnnounced, (message) => this.#heard(message.payload));
    this.#timer = this.#clock.every(ANNOUNCE_PERIOD_MS, () => {
      this.#forget();
      this.announce();
    });
    this.announce();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#subscription?.close();
  }

  /** Says how things stand, now. */
  announce(): void {
    const payload = toBinary(AdapterAnnouncedSchema, {
      $typeName: "signalbox.events.v1.AdapterAnnounced",
      replica: this.#own.replica,
      address: this.#own.address,
      backends: [...this.#own.backends()],
      inFlight: this.#own.inFlight(),
      leaving: this.#own.leaving(),
      sequence: ++this.#sequence,
    });
    this.#bus.publish(SUBJECTS.adapterAnnounced, payload);
  }

  /** Replicas serving `backend`, this one included. */
  replicasOf(backend: string): number {
    let count = 1;
    for (const peer of this.#peers.values()) if (peer.backends.has(backend)) count++;
    return count;
  }

  #heard(payload: Uint8Array): void {
    let announced;
    try {
      announced = fromBinary(AdapterAnnouncedSchema, payload);
    } catch (error) {
      this.#logger.warn({ err: error }, "an announcement could not be read");
      return;
    }
    const { replica, backends, leaving } = announced;
    if (replica === this.#own.replica) return;
    const known = this.#peers.get(replica);
    if (leaving) this.#peers.delete(replica);
    else if (known !== undefined || this.#peers.size < REPLICAS_MAX) {
      this.#peers.set(replica, { backends: new Set(backends), heardMs: this.#clock.monotonicMs() });
    }
    if (leaving ? known !== undefined : known === undefined || !sameNames(known.backends, backends)) this.#changed();
  }

  #forget(): void {
    const nowMs = this.#clock.monotonicMs();
    let forgotten = false;
    for (const [replica, peer] of this.#peers) {
      if (nowMs - peer.heardMs < REPLICA_TTL_MS) continue;
      this.#peers.delete(replica);
      forgotten = true;
    }
    if (forgotten) this.#changed();
  }
}

function sameNames(known: ReadonlySet<string>, names: readonly string[]): boolean {
  return known.size === names.length && names.every((name) => known.has(name));
}
