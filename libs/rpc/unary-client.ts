import {
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  create,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Client, type ServiceError, status } from "@grpc/grpc-js";
import { SignalboxError } from "#libs/errors/index.ts";
import { AddressBook } from "./addresses.ts";
import { fromGrpcError } from "./errors.ts";
import type { LinkDeps } from "./stream-link.ts";
import { CLIENT_OPTIONS, dialCredentials } from "./wire.ts";

/** Time for one call, over all addresses, ms. */
const DEADLINE_MS = 5_000;
/** Time without an answer or the next batch of a stream after which it is given up, ms. */
const STREAM_IDLE_MS = 30_000;

/** What a far client of the control side needs. */
export interface UnaryClientDeps extends LinkDeps {
  /** host:port or dns:///name:port; tried in turn. */
  readonly addresses: readonly string[];
}

/** Calls to one role: at the address that answered last, at the others when it cannot be reached. */
export class UnaryClient {
  readonly #deps: UnaryClientDeps;
  readonly #clients = new Map<string, Client>();
  readonly #book: AddressBook;
  #order: readonly string[] = [];
  #preferred = 0;

  constructor(deps: UnaryClientDeps) {
    this.#deps = deps;
    this.#book = new AddressBook(deps.addresses, deps.clock, (addresses) => this.#follow(addresses));
  }

  /**
   * One call; asks the other addresses too while the answer is not `enough`. Rejects with a SignalboxError; a peer that
   * cannot be reached is NO_BACKEND with code `peer_unavailable`.
   */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    enough: (answer: MessageShape<O>) => boolean = () => true,
  ): Promise<MessageShape<O>> {
    let last: MessageShape<O> | undefined;
    const deadline = this.#deps.clock.now() + DEADLINE_MS;
    let failure = away("no address is known");
    for (let tried = 0; tried < this.#order.length; tried++) {
      const client = this.#clients.get(this.#order[this.#preferred % this.#order.length]!)!;
      try {
        last = await unary(client, method, request, deadline);
        if (enough(last)) return last;
        this.#preferred++;
      } catch (cause) {
        const error = cause as ServiceError;
        failure = error.code === status.UNAVAILABLE && isTransport(error) ? away(error.details, error) : fromGrpcError(error);
        if (error.code !== status.UNAVAILABLE) throw failure;
        this.#preferred++;
      }
    }
    if (last !== undefined) return last;
    throw failure;
  }

  /** A stream of answers from one address; fails over only before the first answer. */
  async *stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
  ): AsyncGenerator<MessageShape<O>> {
    let failure = away("no address is known");
    for (let tried = 0; tried < this.#order.length; tried++) {
      const client = this.#clients.get(this.#order[this.#preferred % this.#order.length]!)!;
      let answered = false;
      try {
        for await (const answer of this.#answers(client, method, request)) {
          answered = true;
          yield answer;
        }
        return;
      } catch (cause) {
        const error = cause as ServiceError;
        failure = error.code === status.UNAVAILABLE && isTransport(error) ? away(error.details, error) : fromGrpcError(error);
        if (answered || error.code !== status.UNAVAILABLE) throw failure;
        this.#preferred++;
      }
    }
    throw failure;
  }

  close(): void {
    this.#book.close();
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
    this.#order = [];
  }

  #follow(addresses: readonly string[]): void {
    for (const address of addresses) {
      if (!this.#clients.has(address)) this.#clients.set(address, new Client(address, dialCredentials(this.#deps.tls), CLIENT_OPTIONS));
    }
    for (const [address, client] of this.#clients) {
      if (addresses.includes(address)) continue;
      this.#clients.delete(address);
      client.close();
    }
    this.#order = addresses;
  }

  async *#answers<I extends DescMessage, O extends DescMessage>(
    client: Client,
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
  ): AsyncGenerator<MessageShape<O>> {
    const call = client.makeServerStreamRequest(pathOf(method), serializer(method), deserializer(method), request);
    let idle = this.#deps.clock.after(STREAM_IDLE_MS, () => call.cancel());
    try {
      for await (const answer of call as AsyncIterable<MessageShape<O>>) {
        idle.cancel();
        yield answer;
        idle = this.#deps.clock.after(STREAM_IDLE_MS, () => call.cancel());
      }
    } finally {
      idle.cancel();
      call.cancel();
    }
  }
}

type AnyMethod<I extends DescMessage, O extends DescMessage> = DescMethodUnary<I, O> | DescMethodServerStreaming<I, O>;

function unary<I extends DescMessage, O extends DescMessage>(
  client: Client,
  method: DescMethodUnary<I, O>,
  request: MessageInitShape<I>,
  deadline: number,
): Promise<MessageShape<O>> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(pathOf(method), serializer(method), deserializer(method), request, { deadline }, (error, answer) => {
      if (error) reject(error);
      else resolve(answer!);
    });
  });
}

function pathOf<I extends DescMessage, O extends DescMessage>(method: AnyMethod<I, O>): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function serializer<I extends DescMessage, O extends DescMessage>(method: AnyMethod<I, O>): (request: MessageInitShape<I>) => Buffer {
  return (request) => Buffer.from(toBinary(method.input, create(method.input, request)));
}

function deserializer<I extends DescMessage, O extends DescMessage>(method: AnyMethod<I, O>): (bytes: Buffer) => MessageShape<O> {
  return (bytes) => fromBinary(method.output, bytes);
}

/** Whether the transport failed, not the service: services send a reason along. */
function isTransport(error: ServiceError): boolean {
  return error.metadata?.get("grpc-status-details-bin").length === 0;
}

function away(why: string, cause?: unknown): SignalboxError {
  return new SignalboxError("NO_BACKEND", `a service of the mesh cannot be reached: ${why}`, { code: "peer_unavailable", cause });
}
