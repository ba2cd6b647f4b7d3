import { create, type DescMethod, fromBinary, type Message, type MessageInitShape, type DescMessage, toBinary } from "@bufbuild/protobuf";
import { createHandlerContext, type HandlerContext } from "@connectrpc/connect";
import type { Metadata, sendUnaryData, Server, ServerUnaryCall, ServerWritableStream } from "@grpc/grpc-js";
import type { Clock } from "#libs/clock/index.ts";
import { toGrpcStatus } from "./errors.ts";
import type { RpcService } from "./service.ts";
import { handlerOf } from "./translated.ts";

/**
 * Puts a service's unary and server-streaming handlers, written in Connect's shape, on a grpc-js server. Of several services
 * with one descriptor the first to implement a method serves it; client streams are not bridged.
 */
export function bridge(server: Server, service: RpcService, taken: Set<string>, clock: Clock): void {
  for (const method of service.descriptor.methods) {
    const handler = handlerOf(service, method);
    const path = `/${service.descriptor.typeName}/${method.name}`;
    if (!handler || taken.has(path)) continue;
    taken.add(path);
    const deserialize = (bytes: Buffer): Message => fromBinary(method.input, bytes);
    const serialize = (answer: Message): Buffer => {
      const bytes = toBinary(method.output, create(method.output, answer as MessageInitShape<DescMessage>));
      return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    };
    if (method.methodKind === "unary") {
      const serve = (call: ServerUnaryCall<Message, Message>, callback: sendUnaryData<Message>): void => {
        const context = contextOf(service, method, path, call, clock);
        void answerOnce(
          () => handler(call.request, context) as Promise<Message>,
          callback,
          () => context.abort(),
        );
      };
      server.register(path, serve as never, serialize as never, deserialize as never, "unary");
    } else if (method.methodKind === "server_streaming") {
      const serve = (call: ServerWritableStream<Message, Message>): void => {
        const context = contextOf(service, method, path, call, clock);
        pump(call, () => handler(call.request, context) as AsyncIterable<Message>)
          .catch((cause: unknown) => call.emit("error", toGrpcStatus(cause)))
          .finally(() => context.abort());
      };
      server.register(path, serve as never, serialize as never, deserialize as never, "serverStream");
    }
  }
}

async function answerOnce(answer: () => Promise<Message>, callback: sendUnaryData<Message>, done: () => void): Promise<void> {
  try {
    callback(null, await answer());
  } catch (cause) {
    callback(toGrpcStatus(cause));
  } finally {
    done();
  }
}

/** Writes the answers, no faster than the caller reads, until they end or the caller goes. */
async function pump(call: ServerWritableStream<Message, Message>, answers: () => AsyncIterable<Message>): Promise<void> {
  const gone = new Promise<void>((resolve) => {
    call.once("cancelled", resolve);
    call.once("close", resolve);
  });
  for await (const answer of answers()) {
    if (call.cancelled || call.destroyed) return;
    if (!call.write(answer)) await Promise.race([gone, new Promise((resolve) => call.once("drain", resolve))]);
  }
  call.end();
}

interface AnyCall {
  readonly metadata: Metadata;
  readonly cancelled: boolean;
  getDeadline(): Date | number;
  once(event: "cancelled", listener: () => void): unknown;
}

function contextOf(
  service: RpcService,
  method: DescMethod,
  path: string,
  call: AnyCall,
  clock: Clock,
): HandlerContext & { abort(reason?: unknown): void } {
  const controller = new AbortController();
  call.once("cancelled", () => controller.abort(new Error("canceled by the caller")));
  // grpc-js keeps deadlines as wall-clock times
  const deadline = call.getDeadline();
  const timeoutMs = deadline === Number.POSITIVE_INFINITY ? undefined : Math.max(0, Number(deadline) - clock.now());
  const header = new Headers();
  for (const [name, value] of Object.entries(call.metadata.getMap())) if (typeof value === "string") header.append(name, value);
  return createHandlerContext({
    service: service.descriptor,
    method,
    protocolName: "grpc",
    requestMethod: "POST",
    url: `http://mesh${path}`,
    requestHeader: header,
    requestSignal: controller.signal,
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  });
}
