import type { AttemptEnd, AttemptError, AttemptOpen } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import type { RateLimitState } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { type EventBus, SUBJECTS } from "#libs/bus/index.ts";
import type { Clock } from "#libs/clock/index.ts";
import * as wire from "#libs/wire/index.ts";

/** Room for one message: beyond it the next begins. Well below NATS's 1 MiB. */
const MESSAGE_BYTES = 64 * 1024;

/** Numbers, tags and lengths of one attempt together stay below this; strings come on top. */
const FIXED_BYTES = 512;

/**
 * Publishes attempts that ended, one message (an AttemptsCompleted) per turn of the event loop. There is one for each attempt, so
 * they are written into the message as they end; a test holds that against the message's own codec.
 */
export class Completions {
  readonly #bus: EventBus;
  readonly #clock: Clock;
  readonly #replica: string;
  #buffer: Buffer | undefined;
  #at = 0;
  #waiting = false;

  constructor(bus: EventBus, clock: Clock, replica: string) {
    this.#bus = bus;
    this.#clock = clock;
    this.#replica = replica;
  }

  add(open: AttemptOpen, end: AttemptEnd): void {
    const buffer = this.#room(bytesMax(open, end) + this.#replica.length * wire.UTF8_PER_UNIT);
    wire.beginMessage(buffer, this.#at);
    const attempt = wire.openMessage(1);
    wire.text(1, open.attemptId);
    wire.text(2, open.backend);
    wire.text(3, this.#replica);
    writeEnd(end);
    wire.double(5, this.#clock.now());
    wire.uint(6, open.requestClass);
    wire.text(7, open.traceparent);
    wire.closeMessage(attempt);
    this.#at = wire.endMessage();
    if (this.#waiting) return;
    this.#waiting = true;
    this.#clock.after(0, () => {
      this.#waiting = false;
      this.flush();
    });
  }

  /** Publishes what is waiting. */
  flush(): void {
    if (this.#at === 0) return;
    const payload = Uint8Array.from(this.#buffer!.subarray(0, this.#at));
    this.#at = 0;
    this.#bus.publish(SUBJECTS.attemptCompleted, payload);
  }

  #room(bytes: number): Buffer {
    if (this.#buffer !== undefined && this.#at + bytes <= this.#buffer.length) return this.#buffer;
    this.flush();
    if (this.#buffer === undefined || this.#buffer.length < bytes) this.#buffer = Buffer.allocUnsafeSlow(Math.max(MESSAGE_BYTES, bytes));
    return this.#buffer;
  }
}

function bytesMax({ attemptId, backend, traceparent }: AttemptOpen, end: AttemptEnd): number {
  const { error } = end;
  let units = attemptId.length + backend.length + traceparent.length;
  units += end.finishReason.length + end.upstreamModel.length + end.responseId.length + (end.usage?.serviceTier.length ?? 0);
  if (error !== undefined) units += error.reason.length + error.message.length + error.code.length + error.param.length + error.type.length;
  for (const warning of end.warnings) units += warning.length + wire.FIELD_BYTES;
  return FIXED_BYTES + units * wire.UTF8_PER_UNIT;
}

/** Without the usage event, which is the client's. */
function writeEnd(end: AttemptEnd): void {
  const start = wire.openMessage(4);
  wire.uint(1, end.outcome);
  if (end.usage !== undefined) wire.usage(2, end.usage);
  wire.bool(3, end.usageKnown);
  wire.text(4, end.finishReason);
  if (end.error !== undefined) writeError(end.error);
  wire.text(6, end.upstreamModel);
  wire.text(7, end.responseId);
  wire.double(8, end.ttftMs);
  wire.double(9, end.durationMs);
  wire.double(10, end.headersMs);
  for (const warning of end.warnings) wire.element(12, warning);
  if (end.rateLimit !== undefined) writeRateLimit(end.rateLimit);
  wire.bool(14, end.contentSeen);
  wire.uint(15, end.contentBytes);
  wire.uint(16, end.contentEvents);
  wire.bool(17, end.garbage);
  wire.bool(18, end.dispatched);
  wire.closeMessage(start);
}

function writeError(error: AttemptError): void {
  const start = wire.openMessage(5);
  wire.text(1, error.reason);
  wire.text(2, error.message);
  wire.uint(3, error.httpStatus);
  wire.text(4, error.code);
  wire.text(5, error.param);
  wire.uint(6, error.retryAfterMs);
  wire.bool(7, error.contextLength);
  wire.bool(8, error.busy);
  wire.text(9, error.type);
  wire.bool(10, error.untouched);
  wire.closeMessage(start);
}

function writeRateLimit(state: RateLimitState): void {
  const start = wire.openMessage(13);
  wire.double(1, state.remainingRequests);
  wire.double(2, state.remainingTokens);
  wire.double(3, state.resetRequestsMs);
  wire.double(4, state.resetTokensMs);
  wire.double(5, state.limitRequests);
  wire.double(6, state.limitTokens);
  wire.closeMessage(start);
}
