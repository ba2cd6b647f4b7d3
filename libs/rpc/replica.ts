import type { Clock } from "#libs/clock/index.ts";
import {
  type AttemptsRequestFrame,
  type AttemptsResponseFrame,
  AttemptsRequestFrameSchema,
  AttemptsResponseFrameSchema,
  DescribeRequestSchema,
  DescribeResponseSchema,
} from "#gen/signalbox/adapter/v1/adapter_service_pb.ts";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { AttemptEndSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { LiveMap } from "#libs/live/index.ts";
import {
  ATTEMPT_WINDOW_BYTES,
  type AttemptData,
  type AttemptEnd,
  type AttemptHandle,
  type AttemptOpen,
  type AttemptSink,
  type CancelReason,
} from "#libs/peers/index.ts";
import { codecOf } from "#libs/wire/index.ts";
import { type LinkDeps, StreamLink } from "./stream-link.ts";
import { ATTEMPTS_PATH } from "./wire.ts";

/** Consumed bytes are granted again when half of a window has gathered: few frames, no stall. */
const GRANT_BYTES = ATTEMPT_WINDOW_BYTES / 2;

/** Time for a replica to say what it serves, ms. */
const DESCRIBE_TIMEOUT_MS = 1_000;

const outgoing = codecOf(AttemptsRequestFrameSchema);
const incoming = codecOf(AttemptsResponseFrameSchema);

/** What a replica says of itself. */
export interface ReplicaState {
  readonly replica: string;
  readonly backends: readonly string[];
  readonly inFlight: number;
  readonly leaving: boolean;
}

/** One adapter process: its stream, what it serves, and the attempts of this ingress on it. */
export class Replica {
  readonly address: string;
  id = "";
  backends: ReadonlySet<string> = new Set();
  leaving = false;
  /** In flight over all ingresses, as it last said. */
  announcedInFlight = 0;
  /** Monotonic ms of the last word about it. */
  heardAtMs: number;
  /** Grows with its announcements; an older one is ignored. */
  sequence = -1n;
  readonly #attempts = new LiveMap<number, FarAttempt>();
  readonly #link: StreamLink<AttemptsRequestFrame, AttemptsResponseFrame>;
  #channel = 0;
  #describing = false;
  readonly #clock: Clock;

  constructor(address: string, deps: LinkDeps, onOpen: (replica: Replica) => void) {
    this.address = address;
    this.#clock = deps.clock;
    this.heardAtMs = deps.clock.monotonicMs();
    this.#link = new StreamLink<AttemptsRequestFrame, AttemptsResponseFrame>(address, deps, {
      path: ATTEMPTS_PATH,
      outgoing,
      incoming,
      onOpen: () => {
        this.leaving = false;
        onOpen(this);
      },
      onFrame: (frame) => this.#received(frame),
      onLost: () => this.#lost(),
    });
  }

  get connected(): boolean {
    return this.#link.open;
  }

  /** Attempts of this ingress in flight. */
  get inFlight(): number {
    return this.#attempts.size;
  }

  takes(backend: string): boolean {
    return this.#link.open && !this.leaving && this.backends.has(backend);
  }

  update(state: ReplicaState, nowMs: number): void {
    this.id = state.replica;
    if (state.backends.length !== this.backends.size || state.backends.some((backend) => !this.backends.has(backend))) {
      this.backends = new Set(state.backends);
    }
    this.announcedInFlight = state.inFlight;
    this.leaving = state.leaving;
    this.heardAtMs = nowMs;
  }

  attempt(open: AttemptOpen, sink: AttemptSink): AttemptHandle {
    const channel = ++this.#channel;
    const attempt = new FarAttempt(this, channel, sink);
    this.#attempts.set(channel, attempt);
    this.send(channel, { case: "open", value: open }, open.body.length);
    return attempt;
  }

  send(channel: number, frame: AttemptsRequestFrame["frame"], payloadBytes = 0): void {
    this.#link.send({ $typeName: "signalbox.adapter.v1.AttemptsRequestFrame", channel, frame }, payloadBytes);
  }

  /** Asks what it serves; resolves with undefined when it does not answer. */
  async describe(): Promise<ReplicaState | undefined> {
    if (this.#describing) return undefined;
    this.#describing = true;
    try {
      return await new Promise((resolve) => {
        this.#link.client.makeUnaryRequest(
          "/signalbox.adapter.v1.AdapterService/Describe",
          () => Buffer.from(toBinary(DescribeRequestSchema, create(DescribeRequestSchema))),
          (bytes: Buffer) => fromBinary(DescribeResponseSchema, bytes),
          null,
          { deadline: this.#clock.now() + DESCRIBE_TIMEOUT_MS },
          (error, answer) => {
            if (error || !answer) return resolve(undefined);
            resolve({ replica: answer.replicaId, backends: answer.backends, inFlight: answer.inFlight, leaving: answer.draining });
          },
        );
      });
    } finally {
      this.#describing = false;
    }
  }

  close(): void {
    this.#link.close();
    this.#lost();
  }

  #received({ channel, frame }: AttemptsResponseFrame): void {
    if (frame.case === "draining") {
      this.leaving = true;
      return;
    }
    const attempt = this.#attempts.get(channel);
    if (!attempt) return;
    if (frame.case === "data") attempt.data(frame.value);
    else if (frame.case === "end") {
      this.#attempts.delete(channel);
      attempt.end(frame.value);
    }
  }

  #lost(): void {
    const all = [...this.#attempts.values()];
    this.#attempts.clear();
    for (const attempt of all) attempt.lost();
  }
}

class FarAttempt implements AttemptHandle {
  readonly #replica: Replica;
  readonly #channel: number;
  readonly #sink: AttemptSink;
  #consumed = 0;
  #ended = false;
  #cancelled: CancelReason | undefined;
  #contentSeen = false;
  #contentBytes = 0;
  #contentEvents = 0;

  constructor(replica: Replica, channel: number, sink: AttemptSink) {
    this.#replica = replica;
    this.#channel = channel;
    this.#sink = sink;
  }

  get replica(): string {
    return this.#replica.id;
  }

  consumed(bytes: number): void {
    if (this.#ended) return;
    this.#consumed += bytes;
    if (this.#consumed < GRANT_BYTES) return;
    this.#replica.send(this.#channel, { case: "credit", value: this.#consumed });
    this.#consumed = 0;
  }

  cancel(reason: CancelReason): void {
    if (this.#ended || this.#cancelled) return;
    this.#cancelled = reason;
    this.#replica.send(this.#channel, { case: "cancel", value: { $typeName: "signalbox.adapter.v1.AttemptCancel", reason } });
  }

  data(data: AttemptData): void {
    if (data.content) {
      this.#contentSeen = true;
      this.#contentBytes += data.data.length;
      this.#contentEvents += data.contentEvents;
    }
    this.#sink.data(data);
  }

  end(end: AttemptEnd): void {
    this.#ended = true;
    this.#sink.end(end);
  }

  /** The stream broke: what the backend did is unknown, money may be owed. */
  lost(): void {
    this.end(
      create(AttemptEndSchema, {
        outcome: outcomeWhenLost(this.#cancelled),
        error: { reason: "UPSTREAM_UNAVAILABLE", message: "the provider adapter was lost", code: ADAPTER_LOST },
        contentSeen: this.#contentSeen,
        contentBytes: this.#contentBytes,
        contentEvents: this.#contentEvents,
        dispatched: true,
      }),
    );
  }
}

/** Error code of an attempt whose adapter died: nobody knows what the provider did, so money may be owed. */
const ADAPTER_LOST = "adapter_lost";

function outcomeWhenLost(cancelled: CancelReason | undefined): Outcome {
  if (cancelled === "canceled") return Outcome.CANCELED;
  if (cancelled === "deadline") return Outcome.DEADLINE;
  return cancelled === "hedge_lost" ? Outcome.HEDGE_LOST : Outcome.FAILED;
}
