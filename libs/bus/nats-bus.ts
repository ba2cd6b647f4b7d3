import type { Msg, NatsConnection, Subscription as NatsSubscription } from "@nats-io/transport-node";
import type { Counter, Metrics } from "#libs/telemetry/index.ts";
import type { BusMessage, EventBus, KeyValue, KeyValueOptions, Subscription } from "./bus.ts";
import { type NatsConnectionDeps, NatsLink } from "./nats-connection.ts";
import { NatsConsumer } from "./nats-consumer.ts";
import { NatsKeyValue } from "./nats-key-value.ts";
import { NatsPublisher } from "./nats-publisher.ts";
import { ensureStream } from "./nats-stream.ts";
import { hasWildcard } from "./subject-match.ts";

/** What the NATS bus needs. */
export interface NatsBusDeps extends NatsConnectionDeps {
  readonly metrics?: Metrics;
}

/** Longest flush at the end, ms. */
const FLUSH_MS = 1_000;
/** Bytes of live messages that may wait in the client for the socket; beyond, they are dropped: the server is not reading. */
const OUTBOUND_MAX_BYTES = 8 * 1024 * 1024;
/** How often the bytes that wait are compared with the bytes that left, ms. */
const FLUSH_EVERY_MS = 50;

/**
 * The bus of many processes. Returns at once and connects in the background: absent or lost, NATS costs live messages
 * (dropped, counted) and rejects durable ones, and nothing waits for it. Works with nats-server 2.9 (`-js`) and later.
 */
export function createNatsBus(deps: NatsBusDeps): EventBus {
  return new NatsBus(deps);
}

class NatsBus implements EventBus {
  readonly #deps: NatsBusDeps;
  readonly #link: NatsLink;
  readonly #publisher: NatsPublisher;
  readonly #consumers = new Set<NatsConsumer>();
  readonly #dropped: Counter | undefined;
  readonly #owner: string;
  #ensuring: Promise<void> | undefined;
  /** Bytes published since the server last answered a ping behind them. */
  #unconfirmed = 0;
  #flushing = false;

  constructor(deps: NatsBusDeps) {
    this.#deps = deps;
    this.#dropped = deps.metrics?.counter("signalbox_bus_dropped_total", "Live messages dropped because the bus was away or full").with();
    this.#owner = `${deps.name}-${Buffer.from(deps.random.bytes(new Uint8Array(6))).toString("hex")}`;
    this.#link = new NatsLink(deps);
    this.#publisher = new NatsPublisher(this.#link, deps.clock, () => void this.#ensureStream());
    this.#link.onConnection((connected) => {
      this.#unconfirmed = 0;
      if (connected) void this.#ensureStream();
    });
  }

  get connected(): boolean {
    return this.#link.connected;
  }

  publish(subject: string, payload: Uint8Array): void {
    const connection = this.#link.live;
    if (!connection || this.#unconfirmed > OUTBOUND_MAX_BYTES) {
      this.#dropped?.add();
      return;
    }
    try {
      connection.publish(subject, payload);
      this.#unconfirmed += payload.length;
      if (!this.#flushing) this.#confirmLater(connection);
    } catch {
      this.#dropped?.add();
    }
  }

  subscribe(subject: string, handler: (message: BusMessage) => void, options: { readonly queue?: string } = {}): Subscription {
    let live: NatsSubscription | undefined;
    let closed = false;
    const callback = (error: Error | null, message: Msg): void => {
      if (error || closed) return;
      try {
        handler({ subject: message.subject, payload: message.data, deliveries: 1 });
      } catch (cause) {
        this.#deps.logger.error({ err: cause, subject }, "bus handler threw");
      }
    };
    const fresh = this.#link.onFresh((connection) => {
      live = connection.subscribe(subject, options.queue === undefined ? { callback } : { callback, queue: options.queue });
    });
    return {
      close: () => {
        closed = true;
        fresh.close();
        if (live && !live.isClosed()) live.unsubscribe();
      },
    };
  }

  async publishDurable(subject: string, payload: Uint8Array, messageId: string): Promise<void> {
    if (this.#ensuring) await this.#ensuring;
    return this.#publisher.publish(subject, payload, messageId);
  }

  consume(subject: string, durable: string, handler: (batch: readonly BusMessage[]) => Promise<void>): Subscription {
    if (hasWildcard(subject)) throw new Error("a durable consumer takes one subject");
    const { clock, logger } = this.#deps;
    const consumer = new NatsConsumer({ link: this.#link, clock, logger, owner: this.#owner }, subject, durable, handler);
    this.#consumers.add(consumer);
    return {
      close: () => {
        this.#consumers.delete(consumer);
        consumer.close();
      },
    };
  }

  keyValue(bucket: string, options: KeyValueOptions = {}): KeyValue {
    return new NatsKeyValue(this.#link, this.#deps.clock, this.#deps.logger, bucket, options);
  }

  onConnection(listener: (connected: boolean) => void): Subscription {
    return this.#link.onConnection(listener);
  }

  async close(): Promise<void> {
    for (const consumer of this.#consumers) consumer.close();
    this.#consumers.clear();
    await this.#link.close(FLUSH_MS);
    this.#publisher.close();
  }

  /** Asks the server to answer behind what was published: without that answer, a frozen server would fill our memory. */
  #confirmLater(connection: NatsConnection): void {
    this.#flushing = true;
    this.#deps.clock.after(FLUSH_EVERY_MS, () => {
      const covered = this.#unconfirmed;
      connection
        .flush()
        .then(() => (this.#unconfirmed = Math.max(0, this.#unconfirmed - covered)))
        .catch(() => {})
        .finally(() => (this.#flushing = false));
    });
  }

  #ensureStream(): Promise<void> {
    const connection = this.#link.live;
    if (!connection) return Promise.resolve();
    return (this.#ensuring ??= ensureStream(connection)
      .then(() => {})
      .catch((cause: unknown) => this.#deps.logger.warn({ err: cause }, "bus stream cannot be made; durable messages wait in the outbox"))
      .finally(() => (this.#ensuring = undefined)));
  }
}
