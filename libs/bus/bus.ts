/** A message from the bus. */
export interface BusMessage {
  readonly subject: string;
  readonly payload: Uint8Array;
  /** Deliveries of this message so far, from 1; only meaningful for durable consumers. */
  readonly deliveries: number;
}

/** Ends a subscription. Idempotent. */
export interface Subscription {
  close(): void;
}

/** Replicated state: small values by key, the latest wins. */
export interface KeyValue {
  get(key: string): Promise<Uint8Array | undefined>;
  put(key: string, value: Uint8Array): Promise<void>;
  /** Puts a value where there is none; false = somebody's is there. Of several at once, exactly one gets true. */
  create(key: string, value: Uint8Array): Promise<boolean>;
  delete(key: string): Promise<void>;
  /** Calls `handler` for every present key first, then for every change; `undefined` = deleted. */
  watch(handler: (key: string, value: Uint8Array | undefined) => void): Subscription;
}

/** A KV bucket's bounds. */
export interface KeyValueOptions {
  /** Time to live of a value, ms; 0 = for ever. */
  readonly ttlMs?: number;
  /** Kept in memory only. */
  readonly memory?: boolean;
  /** All values together, bytes; what goes beyond is refused. Absent = no bound of its own. */
  readonly maxBytes?: number;
}

/**
 * Events and replicated state. The in-memory bus serves one process, the NATS bus many; both pass `bus.contract.ts`.
 * Nothing on the request path waits for it, and losing it degrades, never blocks.
 */
export interface EventBus {
  /** Fire and forget. While the bus is away, messages are dropped and counted. */
  publish(subject: string, payload: Uint8Array): void;
  /** Live messages of `subject` (NATS wildcards `*` and `>`). With `queue`, each message goes to one member of the group. */
  subscribe(subject: string, handler: (message: BusMessage) => void, options?: { readonly queue?: string }): Subscription;
  /**
   * Publishes into the durable stream and resolves when the stream has it; rejects when the bus is away or times out (5 s).
   * `messageId` deduplicates within the stream's window: an optimisation, never a guarantee.
   */
  publishDurable(subject: string, payload: Uint8Array, messageId: string): Promise<void>;
  /**
   * Durable consumer: at least once, in order per publisher while nothing fails, one handler call at a time per consumer name
   * over all replicas. The batch is acknowledged when the handler resolves and redelivered (after 1 s and up) when it rejects.
   */
  consume(subject: string, durable: string, handler: (batch: readonly BusMessage[]) => Promise<void>): Subscription;
  keyValue(bucket: string, options?: KeyValueOptions): KeyValue;
  /** Whether messages get through now. */
  readonly connected: boolean;
  /** Called on every change of `connected`. */
  onConnection(listener: (connected: boolean) => void): Subscription;
  /** Flushes what it can within 1 s, then closes. */
  close(): Promise<void>;
}
