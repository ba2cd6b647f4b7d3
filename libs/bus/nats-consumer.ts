import type { ConsumerMessages, JsMsg } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import type { Clock, Timer } from "#libs/clock/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import type { BusMessage, Subscription } from "./bus.ts";
import { BATCH_MAX, redeliveryDelayMs } from "./limits.ts";
import type { NatsLink } from "./nats-connection.ts";
import { LEASE_RENEW_MS, NatsLease } from "./nats-lease.ts";
import { ACK_WAIT_MS, ensureConsumer } from "./nats-stream.ts";

/** How long one pull waits at the server, ms; a missed heartbeat shows a dead consumer within half of it. */
const PULL_EXPIRES_MS = 5_000;

/** What a durable consumer is made of. */
export interface NatsConsumerDeps {
  readonly link: NatsLink;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Names this process among the replicas. */
  readonly owner: string;
}

/**
 * One member of a durable consumer. A lease makes one member at a time pull; it hands what has arrived to the handler,
 * one call after the other, and acknowledges when the handler is done.
 */
export class NatsConsumer implements Subscription {
  readonly #deps: NatsConsumerDeps;
  readonly #subject: string;
  readonly #durable: string;
  readonly #handler: (batch: readonly BusMessage[]) => Promise<void>;
  readonly #lease: NatsLease;
  readonly #timer: Timer;
  readonly #connection: Subscription;
  #buffer: JsMsg[] = [];
  #messages: ConsumerMessages | undefined;
  #electing = false;
  #working: Promise<void> | undefined;
  #closed = false;

  constructor(deps: NatsConsumerDeps, subject: string, durable: string, handler: (batch: readonly BusMessage[]) => Promise<void>) {
    this.#deps = deps;
    this.#subject = subject;
    this.#durable = durable.replace(/[^A-Za-z0-9_-]/g, "_");
    this.#handler = handler;
    this.#lease = new NatsLease(`consumer-${this.#durable}`, deps.owner, deps.clock);
    this.#timer = deps.clock.every(LEASE_RENEW_MS, () => this.#elect());
    // after a reconnect the server may have lost everything: begin again
    this.#connection = deps.link.onConnection((connected) => {
      this.#pause();
      if (connected) this.#elect();
    });
    this.#elect();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer.cancel();
    this.#connection.close();
    this.#pause();
    void this.#leave();
  }

  /** Resolves when the handler call in hand is over and the lease is given back. */
  async #leave(): Promise<void> {
    await this.#working;
    await this.#lease.release();
  }

  #elect(): void {
    const connection = this.#deps.link.live;
    if (this.#electing || this.#closed || !connection) return;
    this.#electing = true;
    this.#acquire(connection)
      .catch((cause: unknown) => {
        this.#pause();
        this.#deps.logger.debug({ err: cause, durable: this.#durable }, "bus consumer could not start; trying again");
      })
      .finally(() => {
        this.#electing = false;
      });
  }

  async #acquire(connection: NatsConnection): Promise<void> {
    if (!(await this.#lease.acquire(connection))) return this.#pause();
    if (this.#closed) return this.#leave();
    if (this.#messages) return;
    const consumer = await ensureConsumer(connection, this.#subject, this.#durable);
    if (this.#closed || this.#deps.link.live !== connection) return;
    this.#messages = await consumer.consume({
      max_messages: BATCH_MAX,
      expires: PULL_EXPIRES_MS,
      callback: (message) => {
        this.#buffer.push(message);
        this.#work();
      },
    });
  }

  /** Stops pulling; what was pulled but not begun goes back at once. */
  #pause(): void {
    const messages = this.#messages;
    this.#messages = undefined;
    messages?.stop();
    const buffer = this.#buffer;
    this.#buffer = [];
    if (this.#deps.link.live) for (const message of buffer) message.nak();
  }

  #work(): void {
    if (this.#working || this.#buffer.length === 0 || !this.#lease.held) return;
    const batch = this.#buffer.splice(0, BATCH_MAX);
    this.#working = this.#handle(batch).finally(() => {
      this.#working = undefined;
      this.#work();
    });
  }

  async #handle(batch: readonly JsMsg[]): Promise<void> {
    // What waits behind the batch is renewed too: delivered again, it would pile up here for as long as the handler takes.
    const renewal = this.#deps.clock.every(ACK_WAIT_MS / 3, () => {
      if (this.#deps.link.live) for (const message of [...batch, ...this.#buffer]) message.working();
    });
    const deliveries = batch.reduce((most, message) => Math.max(most, message.info.deliveryCount), 1);
    try {
      await this.#handler(
        batch.map((message) => ({ subject: message.subject, payload: message.data, deliveries: message.info.deliveryCount })),
      );
      if (this.#deps.link.live) for (const message of batch) message.ack();
    } catch (cause) {
      this.#deps.logger.warn({ err: cause, deliveries }, "bus consumer failed; its batch will be delivered again");
      if (this.#deps.link.live) for (const message of batch) message.nak(redeliveryDelayMs(deliveries));
    } finally {
      renewal.cancel();
    }
  }
}
