import { JetStreamApiCodes, JetStreamApiError, StorageType } from "@nats-io/jetstream";
import { Kvm, type KV, type KvWatchEntry } from "@nats-io/kv";
import type { QueuedIterator } from "@nats-io/transport-node";
import type { Clock } from "#libs/clock/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import type { KeyValue, KeyValueOptions, Subscription } from "./bus.ts";
import type { NatsLink } from "./nats-connection.ts";
import { busUnavailable } from "./unavailable.ts";

/** Wait before a watch that failed is tried again, ms. */
const WATCH_RETRY_MS = 1_000;

/** A JetStream key-value bucket, made on demand, also when the server lost it. */
export class NatsKeyValue implements KeyValue {
  readonly #link: NatsLink;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #name: string;
  readonly #options: KeyValueOptions;
  #bucket: Promise<KV> | undefined;

  constructor(link: NatsLink, clock: Clock, logger: Logger, name: string, options: KeyValueOptions) {
    this.#link = link;
    this.#clock = clock;
    this.#logger = logger;
    this.#name = name.replace(/[^A-Za-z0-9_-]/g, "_");
    this.#options = options;
    link.onConnection(() => (this.#bucket = undefined));
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    const entry = await this.#run((bucket) => bucket.get(encodeKey(key)));
    return entry?.operation === "PUT" ? entry.value : undefined;
  }

  async put(key: string, value: Uint8Array): Promise<void> {
    await this.#run((bucket) => bucket.put(encodeKey(key), value));
  }

  create(key: string, value: Uint8Array): Promise<boolean> {
    return this.#run(async (bucket) => {
      try {
        await bucket.create(encodeKey(key), value);
        return true;
      } catch (cause) {
        if (isTaken(cause)) return false;
        throw cause;
      }
    });
  }

  async delete(key: string): Promise<void> {
    await this.#run((bucket) => bucket.delete(encodeKey(key)));
  }

  watch(handler: (key: string, value: Uint8Array | undefined) => void): Subscription {
    const watch = new Watch(handler);
    const begin = (): void => {
      watch.stop();
      if (watch.closed || !this.#link.live) return;
      this.#follow(watch).catch((cause: unknown) => {
        this.#logger.debug({ err: cause, bucket: this.#name }, "bus watch failed; trying again");
        this.#clock.after(WATCH_RETRY_MS, begin);
      });
    };
    const connection = this.#link.onConnection((connected) => (connected ? begin() : watch.stop()));
    begin();
    return {
      close: () => {
        watch.closed = true;
        watch.stop();
        connection.close();
      },
    };
  }

  /** Reads the present keys, tells of those that vanished meanwhile, then follows changes until the iterator is stopped. */
  async #follow(watch: Watch): Promise<void> {
    const generation = ++watch.generation;
    const bucket = await this.#open();
    const entries = await bucket.watch();
    if (watch.closed || watch.generation !== generation) return entries.stop();
    watch.entries = entries;
    const present = new Set<string>();
    let initial = true;
    const { values } = await bucket.status();
    if (values === 0) initial = watch.settle(present);
    for await (const entry of entries) {
      if (watch.generation !== generation) return;
      const key = decodeKey(entry.key);
      if (entry.operation === "PUT") present.add(key);
      watch.tell(key, entry.operation === "PUT" ? entry.value : undefined);
      if (initial && (entry.isUpdate || entry.delta === 0)) initial = watch.settle(present);
    }
  }

  async #run<T>(call: (bucket: KV) => Promise<T>): Promise<T> {
    if (!this.#link.live) throw busUnavailable("away");
    try {
      return await call(await this.#open());
    } catch (cause) {
      this.#bucket = undefined;
      throw busUnavailable(`key-value bucket ${this.#name} failed`, cause);
    }
  }

  #open(): Promise<KV> {
    const connection = this.#link.live;
    if (!connection) return Promise.reject(busUnavailable("away"));
    return (this.#bucket ??= new Kvm(connection).create(this.#name, {
      history: 1,
      storage: this.#options.memory === true ? StorageType.Memory : StorageType.File,
      ...(this.#options.ttlMs ? { ttl: this.#options.ttlMs } : {}),
      ...(this.#options.maxBytes ? { max_bytes: this.#options.maxBytes } : {}),
    }));
  }
}

/** State of one watcher over reconnects. */
class Watch {
  closed = false;
  generation = 0;
  entries: QueuedIterator<KvWatchEntry> | undefined;
  readonly #known = new Set<string>();
  readonly #handler: (key: string, value: Uint8Array | undefined) => void;

  constructor(handler: (key: string, value: Uint8Array | undefined) => void) {
    this.#handler = handler;
  }

  stop(): void {
    this.generation++;
    this.entries?.stop();
    this.entries = undefined;
  }

  tell(key: string, value: Uint8Array | undefined): void {
    if (this.closed || (value === undefined && !this.#known.has(key))) return;
    if (value === undefined) this.#known.delete(key);
    else this.#known.add(key);
    this.#handler(key, value);
  }

  /** The present keys are complete: those known from before and absent now are gone. Returns false: the initial phase is over. */
  settle(present: ReadonlySet<string>): false {
    for (const key of this.#known) if (!present.has(key)) this.tell(key, undefined);
    return false;
  }
}

/** Whether a write lost against another one. */
function isTaken(cause: unknown): boolean {
  if (!(cause instanceof JetStreamApiError)) return false;
  return cause.code === JetStreamApiCodes.StreamWrongLastSequence || cause.code === JetStreamApiCodes.StreamWrongLastSequenceUnknown;
}

/** Keys may hold anything; on the wire only letters, digits, `_`, `-` and `=HH` for each other byte. */
export function encodeKey(key: string): string {
  return Buffer.from(key, "utf8")
    .toString("latin1")
    .replace(/[^A-Za-z0-9_-]/g, (byte) => `=${byte.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

/** Undoes {@link encodeKey}. */
export function decodeKey(key: string): string {
  const bytes = key.replace(/=([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(bytes, "latin1").toString("utf8");
}
