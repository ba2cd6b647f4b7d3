import { Kvm, type KV } from "@nats-io/kv";
import { StorageType } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import type { Clock } from "#libs/clock/index.ts";

const BUCKET = "signalbox-leases";
/** A lease that is not renewed for this long is free again, ms. */
export const LEASE_TTL_MS = 5_000;
/** How often the holder renews and the others ask, ms. */
export const LEASE_RENEW_MS = 1_500;

/** One name held by one process at a time, over all replicas: how a durable consumer gets one handler at a time. */
export class NatsLease {
  readonly #key: string;
  readonly #owner: Uint8Array;
  readonly #clock: Clock;
  #bucket: KV | undefined;
  #revision: number | undefined;
  #renewedAtMs = 0;

  constructor(key: string, owner: string, clock: Clock) {
    this.#key = key;
    this.#owner = new TextEncoder().encode(owner);
    this.#clock = clock;
  }

  /** Whether this process may act now: false early enough before another could get it. */
  get held(): boolean {
    return this.#revision !== undefined && this.#clock.monotonicMs() - this.#renewedAtMs < LEASE_TTL_MS - LEASE_RENEW_MS;
  }

  /** Takes or renews the lease; resolves with whether it is held. */
  async acquire(connection: NatsConnection): Promise<boolean> {
    const askedAtMs = this.#clock.monotonicMs();
    try {
      this.#bucket ??= await new Kvm(connection).create(BUCKET, { ttl: LEASE_TTL_MS, history: 1, storage: StorageType.Memory });
      this.#revision =
        this.#revision === undefined
          ? await this.#bucket.create(this.#key, this.#owner)
          : await this.#bucket.update(this.#key, this.#owner, this.#revision);
      this.#renewedAtMs = askedAtMs;
      return true;
    } catch {
      // held by another, expired meanwhile, or the server lost the bucket: start over at the next round
      this.forget();
      return false;
    }
  }

  forget(): void {
    this.#revision = undefined;
    this.#bucket = undefined;
  }

  /** Lets the next one have it at once. */
  async release(): Promise<void> {
    const bucket = this.#bucket;
    if (!bucket || this.#revision === undefined) return;
    const previousSeq = this.#revision;
    this.forget();
    await bucket.delete(this.#key, { previousSeq }).catch(() => {});
  }
}
