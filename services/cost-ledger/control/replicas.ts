import { create } from "@bufbuild/protobuf";
import { type Replica, ReplicaSchema } from "#gen/signalbox/control/v1/control_service_pb.ts";
import type { Clock } from "#libs/clock/index.ts";

/** A replica not heard of for this long is gone: it reports every two seconds at the least, ms. */
const GONE_MS = 10_000;

/** Replicas known at once; beyond, the ones longest unheard go. */
const REPLICAS_MAX = 1_000;

/** What a replica says of itself. */
export type ReplicaStatus = Pick<Replica, "replica" | "role" | "revision" | "appliedAtMs">;

/** Who applied which revision of the control state, as far as heard. In memory: replicas say it again every two seconds. */
export class Replicas {
  readonly #clock: Clock;
  readonly #known = new Map<string, Replica>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Takes in what a replica said; an older revision than known is late news and only shows that it lives. */
  heard({ replica, role, revision, appliedAtMs }: ReplicaStatus): void {
    if (replica === "") return;
    // One process may be several: each part takes the state over by itself.
    const name = `${role} ${replica}`;
    const before = this.#known.get(name);
    const isNews = before === undefined || revision > before.revision;
    const status = isNews ? { revision, appliedAtMs } : { revision: before.revision, appliedAtMs: before.appliedAtMs };
    this.#known.delete(name);
    this.#known.set(name, create(ReplicaSchema, { replica, role, ...status, heardAtMs: this.#clock.now() }));
    if (this.#known.size > REPLICAS_MAX) this.#known.delete(this.#known.keys().next().value!);
  }

  /** Those heard of lately, by role and name. */
  list(): readonly Replica[] {
    const oldest = this.#clock.now() - GONE_MS;
    for (const [name, { heardAtMs }] of this.#known) if (heardAtMs < oldest) this.#known.delete(name);
    return [...this.#known.values()].toSorted((a, b) => compare(a.role, b.role) || compare(a.replica, b.replica));
  }
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
