import type { AttemptEnd, AttemptOpen } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { ATTEMPT_WINDOW_BYTES, type AttemptHandle, type AttemptSink, type CancelReason } from "#libs/peers/index.ts";
import type { Batchable } from "./batcher.ts";
import type { BatchRequest } from "./request.ts";

/** Who is told what becomes of a member. */
export interface MemberOwner {
  cancelled(member: Member): void;
  /** Called once, right before the sink's `end`. */
  ended(member: Member, end: AttemptEnd): void;
}

/** One caller's attempt among those that share a call. */
export class Member implements AttemptHandle, Batchable {
  readonly open: AttemptOpen;
  readonly request: BatchRequest;
  readonly replica: string;
  readonly items: number;
  readonly tokens: number;
  readonly maxWaitMs: number;
  /** Monotonic. */
  readonly startMs: number;
  /** Why the caller gave up; undefined = it still waits. */
  reason: CancelReason | undefined;
  readonly #sink: AttemptSink;
  readonly #owner: MemberOwner;
  #window = ATTEMPT_WINDOW_BYTES;
  #rest: { bytes: Uint8Array; readonly end: AttemptEnd } | undefined;
  #over = false;

  constructor(
    open: AttemptOpen,
    request: BatchRequest,
    times: { readonly startMs: number; readonly maxWaitMs: number },
    sink: AttemptSink,
    owner: MemberOwner,
    replica: string,
  ) {
    this.open = open;
    this.request = request;
    this.replica = replica;
    this.items = request.inputs.length;
    this.tokens = request.inputs.reduce((sum, input) => sum + input.tokens, 0);
    this.startMs = times.startMs;
    this.maxWaitMs = times.maxWaitMs;
    this.#sink = sink;
    this.#owner = owner;
  }

  consumed(bytes: number): void {
    this.#window += bytes;
    this.#pump();
  }

  cancel(reason: CancelReason): void {
    if (this.#over || this.reason !== undefined) return;
    this.reason = reason;
    const end = this.#rest?.end;
    this.#rest = undefined;
    if (end === undefined) this.#owner.cancelled(this);
    else this.finish(end);
  }

  /** The answer, and the end behind it as soon as the caller took it. */
  answer(bytes: Uint8Array, end: AttemptEnd): void {
    this.#rest = { bytes, end };
    this.#pump();
  }

  /** Ends it. Once; later ends are ignored. */
  finish(end: AttemptEnd): void {
    if (this.#over) return;
    this.#over = true;
    this.#rest = undefined;
    this.#owner.ended(this, end);
    this.#sink.end(end);
  }

  #pump(): void {
    while (this.#rest !== undefined && this.#window > 0) {
      const { bytes, end } = this.#rest;
      const piece = bytes.length <= this.#window ? bytes : bytes.subarray(0, this.#window);
      const isLast = piece.length === bytes.length;
      this.#window -= piece.length;
      if (!isLast) this.#rest.bytes = bytes.subarray(piece.length);
      else this.#rest = undefined;
      const data = { $typeName: "signalbox.adapter.v1.AttemptData", data: piece as Uint8Array<ArrayBuffer> } as const;
      this.#sink.data({ ...data, content: true, contentEvents: 0 });
      if (isLast) return this.finish(end);
    }
  }
}
