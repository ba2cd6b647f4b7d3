import type { BusMessage, EventBus, KeyValue, Subscription } from "#libs/bus/index.ts";
import type { Clock } from "#libs/clock/index.ts";

interface Subscriber {
  readonly prefix: string;
  readonly exact: boolean;
  readonly handler: (message: BusMessage) => void;
}

/**
 * A bus in virtual time: a live message arrives after the delay its subject has. Durable streams and key-value buckets are outside
 * the evaluation, whose modules use none.
 */
export function virtualBus(clock: Clock, delayMs: (subject: string) => number = () => 0): EventBus {
  const subscribers = new Set<Subscriber>();
  const absent = (): never => {
    throw new Error("the evaluation's bus carries live messages only");
  };
  return {
    connected: true,
    publish: (subject, payload) => {
      const handlers = [...subscribers].filter(({ prefix, exact }) => (exact ? subject === prefix : subject.startsWith(prefix)));
      if (handlers.length === 0) return;
      const message: BusMessage = { subject, payload, deliveries: 1 };
      clock.after(delayMs(subject), () => {
        for (const { handler } of handlers) handler(message);
      });
    },
    subscribe: (subject, handler): Subscription => {
      const exact = !/[*>]$/.test(subject);
      const subscriber = { prefix: exact ? subject : subject.slice(0, -1), exact, handler };
      subscribers.add(subscriber);
      return { close: () => void subscribers.delete(subscriber) };
    },
    publishDurable: absent,
    consume: absent,
    keyValue: (): KeyValue => absent(),
    onConnection: () => ({ close: () => {} }),
    close: () => Promise.resolve(),
  };
}
