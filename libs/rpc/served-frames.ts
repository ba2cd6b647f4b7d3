import { type ServerDuplexStream, Metadata, status } from "@grpc/grpc-js";
import type { Logger } from "#libs/telemetry/index.ts";
import type { Codec } from "#libs/wire/index.ts";
import { FrameSender, readFrames } from "./frames.ts";

/** What one kind of stream is made of. */
export interface ServedKind<In, Out> {
  /** Its name in log lines, as in `attempts stream`. */
  readonly title: string;
  readonly incoming: Codec<In>;
  readonly outgoing: Codec<Out>;
}

/** What the owner of a stream does. */
export interface ServedEvents<In> {
  /** One frame; throws on one that breaks the protocol, which ends the stream. */
  received(frame: In): void;
  /** The stream is over, however it ended: everything held for the peer is to be released. Once. */
  closed(): void;
}

/** The serving end of one stream of frames: malformed ones end it, and so does a peer that does not read. */
export class ServedFrames<In, Out> {
  readonly #call: ServerDuplexStream<Buffer, Buffer>;
  readonly #sender: FrameSender<Out>;
  readonly #events: ServedEvents<In>;
  #closed = false;

  constructor(call: ServerDuplexStream<Buffer, Buffer>, kind: ServedKind<In, Out>, events: ServedEvents<In>, logger: Logger) {
    this.#call = call;
    this.#events = events;
    this.#sender = new FrameSender(kind.outgoing, (batch, taken) => void call.write(batch, taken));
    call.sendMetadata(new Metadata());
    call.on("data", (batch: Buffer) => {
      if (this.#closed) return;
      try {
        readFrames(kind.incoming, batch, (frame) => events.received(frame));
      } catch (cause) {
        logger.warn({ err: cause, peer: call.getPeer() }, `${kind.title} carried malformed frames`);
        this.#fail(status.INVALID_ARGUMENT, "malformed frames");
      }
    });
    call.on("error", () => this.#close());
    call.on("cancelled", () => this.#close());
    call.on("end", () => {
      this.#close();
      call.end();
    });
  }

  /** Sends a frame; `payloadBytes` is the size of the byte fields in it. Dropped when the stream is over. */
  send(frame: Out, payloadBytes = 0): void {
    if (this.#closed) return;
    this.#sender.send(frame, payloadBytes);
    if (this.#sender.stuck) this.#fail(status.RESOURCE_EXHAUSTED, "the ingress does not read");
  }

  #fail(code: status, details: string): void {
    this.#close();
    this.#call.emit("error", { code, details });
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#sender.close();
    this.#events.closed();
  }
}
