import { createInbox, headers, type Msg, type NatsConnection } from "@nats-io/transport-node";
import type { Clock, Timer } from "#libs/clock/index.ts";
import { PUBLISH_TIMEOUT_MS } from "./limits.ts";
import type { NatsLink } from "./nats-connection.ts";
import { busUnavailable } from "./unavailable.ts";

interface Waiting {
  readonly resolve: () => void;
  readonly reject: (cause: Error) => void;
  readonly untilMs: number;
}

/** Durable publishes whose answer is outstanding; beyond, publishing rejects. The outbox keeps what is refused. */
const WAITING_MAX = 10_000;
/** How often time-outs are looked for, ms. */
const SWEEP_MS = 250;

/**
 * JetStream publishes with acknowledgement over one inbox: a number in the reply subject finds the waiting promise, one
 * timer sweeps them all. About a tenth of the cost of the client's request per publish.
 */
export class NatsPublisher {
  readonly #link: NatsLink;
  readonly #clock: Clock;
  readonly #prefix = createInbox();
  readonly #waiting = new Map<string, Waiting>();
  readonly #sweep: Timer;
  /** Called when no stream took a message. */
  readonly #onNoStream: () => void;
  #next = 0;

  constructor(link: NatsLink, clock: Clock, onNoStream: () => void) {
    this.#link = link;
    this.#clock = clock;
    this.#onNoStream = onNoStream;
    link.onFresh((connection) => this.#listen(connection));
    link.onConnection((connected) => {
      if (!connected) this.#rejectAll("connection lost");
    });
    this.#sweep = clock.every(SWEEP_MS, () => this.#expire());
  }

  publish(subject: string, payload: Uint8Array, messageId: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const connection = this.#link.live;
      if (!connection) return reject(busUnavailable("away"));
      if (this.#waiting.size >= WAITING_MAX) return reject(busUnavailable("too many durable publishes in flight"));
      const token = (this.#next++).toString(36);
      const head = headers();
      head.set("Nats-Msg-Id", messageId);
      try {
        connection.publish(subject, payload, { reply: `${this.#prefix}.${token}`, headers: head });
      } catch (cause) {
        return reject(busUnavailable("refused the message", cause));
      }
      this.#waiting.set(token, { resolve, reject, untilMs: this.#clock.monotonicMs() + PUBLISH_TIMEOUT_MS });
    });
  }

  close(): void {
    this.#sweep.cancel();
    this.#rejectAll("closed");
  }

  #listen(connection: NatsConnection): void {
    connection.subscribe(`${this.#prefix}.*`, { callback: (error, message) => this.#answered(error, message) });
  }

  #answered(error: Error | null, message: Msg): void {
    if (error) return;
    const token = message.subject.slice(this.#prefix.length + 1);
    const waiting = this.#waiting.get(token);
    if (!waiting) return;
    this.#waiting.delete(token);
    const problem = problemOf(message);
    if (problem === undefined) return waiting.resolve();
    if (problem === NO_STREAM) this.#onNoStream();
    waiting.reject(busUnavailable(problem));
  }

  #expire(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [token, waiting] of this.#waiting) {
      // in order of publishing, hence of time
      if (waiting.untilMs > nowMs) return;
      this.#waiting.delete(token);
      waiting.reject(busUnavailable("no acknowledgement in time"));
    }
  }

  #rejectAll(why: string): void {
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const waiting of all) waiting.reject(busUnavailable(why));
  }
}

const NO_STREAM = "no stream takes the subject";

/** What is wrong with a publish answer; undefined = the stream has the message. */
function problemOf(message: Msg): string | undefined {
  if (message.headers?.code === 503) return NO_STREAM;
  try {
    const answer = message.json<{ error?: { description?: string }; seq?: number }>();
    if (answer.error) return answer.error.description ?? "refused";
    return answer.seq === undefined ? "answered without a sequence" : undefined;
  } catch {
    return "answered with something else than JSON";
  }
}
