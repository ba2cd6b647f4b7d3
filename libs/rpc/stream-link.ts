import { Client, type ClientDuplexStream, Metadata } from "@grpc/grpc-js";
import type { Clock, Random, Timer } from "#libs/clock/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import type { Codec } from "#libs/wire/index.ts";
import { FrameSender, readFrames } from "./frames.ts";
import { bytesStream, CLIENT_OPTIONS, dialCredentials, type MeshTls } from "./wire.ts";

/** First and longest wait before a lost stream is opened again, ms; each is halved or less by chance, so that a herd spreads. */
const BACKOFF_FIRST_MS = 50;
const BACKOFF_LONGEST_MS = 1_000;

/** What every link of one client shares. */
export interface LinkDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly tls?: MeshTls | undefined;
}

/** What one kind of stream does with its events. */
export interface LinkEvents<Out, In> {
  readonly path: string;
  readonly outgoing: Codec<Out>;
  readonly incoming: Codec<In>;
  /** Frames to send first on every new stream. */
  readonly hello?: () => Out | undefined;
  /** The server took the stream. */
  onOpen(): void;
  onFrame(frame: In): void;
  /** The stream broke, was refused or never came about. Called once per stream; another attempt follows by itself. */
  onLost(): void;
}

/** One address, one long-lived stream to it, opened again for ever until closed. */
export class StreamLink<Out, In> {
  readonly address: string;
  /** For unary calls to the same address. */
  readonly client: Client;
  #open = false;
  #closed = false;
  #failures = 0;
  #call: ClientDuplexStream<Buffer, Buffer> | undefined;
  #sender: FrameSender<Out> | undefined;
  #retry: Timer | undefined;
  readonly #deps: LinkDeps;
  readonly #events: LinkEvents<Out, In>;

  constructor(address: string, deps: LinkDeps, events: LinkEvents<Out, In>) {
    this.address = address;
    this.#deps = deps;
    this.#events = events;
    this.client = new Client(address, dialCredentials(deps.tls), CLIENT_OPTIONS);
    this.#dial();
  }

  /** Whether the server has taken the stream and it stands. */
  get open(): boolean {
    return this.#open;
  }

  /** Sends with this turn's batch; dropped when there is no stream. */
  send(frame: Out, payloadBytes = 0): void {
    const sender = this.#sender;
    if (!sender) return;
    sender.send(frame, payloadBytes);
    if (sender.stuck) this.#lose("the peer does not read");
  }

  /** Sends what is queued, then ends the stream and the connection. No event follows. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#open = false;
    this.#retry?.cancel();
    this.#sender?.flush();
    this.#sender?.close();
    this.#call?.end();
    this.client.close();
  }

  #dial(): void {
    const method = bytesStream(this.#events.path);
    const call = this.client.makeBidiStreamRequest(method.path, method.requestSerialize, method.responseDeserialize, new Metadata());
    this.#call = call;
    this.#sender = new FrameSender(this.#events.outgoing, (batch, taken) => void call.write(batch, taken));
    call.on("metadata", () => {
      if (call !== this.#call || this.#closed) return;
      this.#failures = 0;
      this.#open = true;
      this.#deps.logger.debug({ address: this.address, path: this.#events.path }, "mesh stream open");
      this.#events.onOpen();
    });
    call.on("data", (batch: Buffer) => this.#received(call, batch));
    call.on("error", (cause: Error) => this.#ended(call, cause.message));
    call.on("end", () => this.#ended(call, "ended by the server"));
    const hello = this.#events.hello?.();
    if (hello !== undefined) this.#sender.send(hello);
  }

  #received(call: ClientDuplexStream<Buffer, Buffer>, batch: Buffer): void {
    if (call !== this.#call || this.#closed) return;
    try {
      readFrames(this.#events.incoming, batch, (frame) => this.#events.onFrame(frame));
    } catch (cause) {
      this.#deps.logger.error({ err: cause, address: this.address }, "mesh stream carried malformed frames");
      this.#lose("malformed frames");
    }
  }

  #lose(why: string): void {
    const call = this.#call;
    if (!call) return;
    this.#ended(call, why);
    call.cancel();
  }

  #ended(call: ClientDuplexStream<Buffer, Buffer>, why: string): void {
    if (call !== this.#call) return;
    this.#call = undefined;
    this.#sender?.close();
    this.#sender = undefined;
    if (this.#closed) return;
    if (this.#open) this.#deps.logger.warn({ address: this.address, why }, "mesh stream lost");
    this.#open = false;
    const ceilingMs = Math.min(BACKOFF_LONGEST_MS, BACKOFF_FIRST_MS * 2 ** Math.min(10, this.#failures++));
    this.#retry = this.#deps.clock.after(ceilingMs * (0.5 + this.#deps.random.next() / 2), () => this.#dial());
    this.#events.onLost();
  }
}
