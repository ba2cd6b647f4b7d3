import type { AttemptEnd, AttemptOpen } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { type AttemptCompleted, AttemptsCompletedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import { type EventBus, SUBJECTS } from "#libs/bus/index.ts";
import type { Clock } from "#libs/clock/index.ts";
import { codecOf } from "#libs/rpc/index.ts";

/** Attempts in one message: some 100 KB, well below NATS's 1 MiB. */
const BATCH_MAX = 250;

const COMPLETED = codecOf(AttemptsCompletedSchema);

const NO_BYTES = new Uint8Array(0);

/** Publishes attempts that ended, one message per turn of the event loop. */
export class Completions {
  readonly #bus: EventBus;
  readonly #clock: Clock;
  readonly #replica: string;
  #batch: AttemptCompleted[] = [];

  constructor(bus: EventBus, clock: Clock, replica: string) {
    this.#bus = bus;
    this.#clock = clock;
    this.#replica = replica;
  }

  add(open: AttemptOpen, end: AttemptEnd): void {
    this.#batch.push({
      $typeName: "signalbox.events.v1.AttemptCompleted",
      attemptId: open.attemptId,
      backend: open.backend,
      replica: this.#replica,
      end: end.usageEvent.length === 0 ? end : { ...end, usageEvent: NO_BYTES },
      endedAtMs: this.#clock.now(),
      requestClass: open.requestClass,
      traceparent: open.traceparent,
    });
    if (this.#batch.length === 1) this.#clock.after(0, () => this.flush());
    else if (this.#batch.length >= BATCH_MAX) this.flush();
  }

  /** Publishes what is waiting. */
  flush(): void {
    if (this.#batch.length === 0) return;
    const attempts = this.#batch;
    this.#batch = [];
    this.#bus.publish(SUBJECTS.attemptCompleted, COMPLETED.encode({ $typeName: "signalbox.events.v1.AttemptsCompleted", attempts }));
  }
}
