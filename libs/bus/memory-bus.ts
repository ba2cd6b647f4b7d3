import type { Clock } from "#libs/clock/index.ts";
import type { Logger, Metrics } from "#libs/telemetry/index.ts";
import type { BusMessage, EventBus, KeyValue, KeyValueOptions, Subscription } from "./bus.ts";
import { PENDING_MAX_MESSAGES } from "./limits.ts";
import { MemoryKeyValue } from "./memory-key-value.ts";
import { MemoryStream } from "./memory-stream.ts";
import { isPublishable, subjectMatches } from "./subject-match.ts";
import { busUnavailable } from "./unavailable.ts";

/** What the in-memory bus needs. */
export interface MemoryBusDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics?: Metrics;
}

interface Subscriber {
  readonly pattern: string;
  readonly queue: string | undefined;
  readonly handler: (message: BusMessage) => void;
  open: boolean;
}

/** Resolved routes kept by subject; forgotten whole when subscriptions change. */
const ROUTES_MAX = 10_000;

/** The bus of one process: same promises as NATS, delivery in a microtask after the publisher's own work. */
export function createMemoryBus(deps: MemoryBusDeps): EventBus {
  return new MemoryBus(deps);
}

class MemoryBus implements EventBus {
  readonly connected = true;
  readonly #deps: MemoryBusDeps;
  readonly #stream: MemoryStream;
  readonly #buckets = new Map<string, MemoryKeyValue>();
  readonly #dropped: { add(amount?: number): void } | undefined;
  #subscribers: readonly Subscriber[] = [];
  #routes = new Map<string, readonly (readonly Subscriber[])[]>();
  #pending: BusMessage[] = [];
  #scheduled = false;
  #closed = false;
  #turn = 0;

  constructor(deps: MemoryBusDeps) {
    this.#deps = deps;
    this.#stream = new MemoryStream(deps.clock, deps.logger);
    this.#dropped = deps.metrics?.counter("signalbox_bus_dropped_total", "Live messages dropped because the bus was away or full").with();
  }

  publish(subject: string, payload: Uint8Array): void {
    if (this.#closed || this.#pending.length >= PENDING_MAX_MESSAGES || !isPublishable(subject)) {
      this.#dropped?.add();
      return;
    }
    this.#pending.push({ subject, payload, deliveries: 1 });
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(this.#deliver);
  }

  subscribe(subject: string, handler: (message: BusMessage) => void, options: { readonly queue?: string } = {}): Subscription {
    const subscriber: Subscriber = { pattern: subject, queue: options.queue, handler, open: true };
    this.#subscribers = [...this.#subscribers, subscriber];
    this.#routes.clear();
    return {
      close: () => {
        subscriber.open = false;
        this.#subscribers = this.#subscribers.filter((other) => other !== subscriber);
        this.#routes.clear();
      },
    };
  }

  publishDurable(subject: string, payload: Uint8Array, messageId: string): Promise<void> {
    if (this.#closed) return Promise.reject(busUnavailable("closed"));
    if (!isPublishable(subject)) return Promise.reject(busUnavailable(`"${subject}" is no subject`));
    this.#stream.append(subject, payload, messageId);
    this.publish(subject, payload);
    return Promise.resolve();
  }

  consume(subject: string, durable: string, handler: (batch: readonly BusMessage[]) => Promise<void>): Subscription {
    return this.#stream.consume(subject, durable, handler);
  }

  keyValue(bucket: string, options: KeyValueOptions = {}): KeyValue {
    let found = this.#buckets.get(bucket);
    if (!found) this.#buckets.set(bucket, (found = new MemoryKeyValue(this.#deps.clock, options)));
    return found;
  }

  onConnection(): Subscription {
    return { close: () => {} };
  }

  close(): Promise<void> {
    this.#deliver();
    this.#closed = true;
    this.#stream.close();
    return Promise.resolve();
  }

  readonly #deliver = (): void => {
    this.#scheduled = false;
    const pending = this.#pending;
    this.#pending = [];
    for (const message of pending) {
      for (const group of this.#route(message.subject)) {
        const one = group.length === 1 ? group[0]! : group[this.#turn++ % group.length]!;
        if (one.open) this.#hand(one, message);
      }
    }
  };

  #hand(subscriber: Subscriber, message: BusMessage): void {
    try {
      subscriber.handler(message);
    } catch (cause) {
      this.#deps.logger.error({ err: cause, subject: message.subject }, "bus handler threw");
    }
  }

  /** Groups to deliver to: one member each. A subscriber without a queue is a group of its own. */
  #route(subject: string): readonly (readonly Subscriber[])[] {
    const known = this.#routes.get(subject);
    if (known) return known;
    const groups: Subscriber[][] = [];
    const queues = new Map<string, Subscriber[]>();
    for (const subscriber of this.#subscribers) {
      if (!subjectMatches(subscriber.pattern, subject)) continue;
      if (subscriber.queue === undefined) {
        groups.push([subscriber]);
        continue;
      }
      const name = `${subscriber.pattern} ${subscriber.queue}`;
      const queue = queues.get(name);
      if (queue) queue.push(subscriber);
      else {
        const fresh = [subscriber];
        queues.set(name, fresh);
        groups.push(fresh);
      }
    }
    if (this.#routes.size >= ROUTES_MAX) this.#routes.clear();
    this.#routes.set(subject, groups);
    return groups;
  }
}
