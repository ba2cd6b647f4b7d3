import type { DescMethod, DescService, Message } from "@bufbuild/protobuf";
import type { ConnectError, HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { RpcService } from "./service.ts";

type Stream = AsyncIterable<Message>;
type Handler = (request: Message | Stream, context: HandlerContext) => Promise<Message> | Message | Stream;

/** Refuses a call by throwing, before its handler runs. */
export type Authorize = (call: HandlerContext) => void | Promise<void>;

/** The service behind `authorize`, with every error a handler throws, at once or in mid-stream, put through `translate`. */
export function translated(service: RpcService, translate: (cause: unknown) => ConnectError, authorize: Authorize = () => {}): RpcService {
  const { descriptor } = service;
  const wrapped: Record<string, Handler> = {};
  for (const method of descriptor.methods) {
    const handler = handlerOf(service, method);
    if (handler) wrapped[method.localName] = answersMany(method) ? many(handler, translate, authorize) : one(handler, translate, authorize);
  }
  return { descriptor, implementation: wrapped as unknown as Partial<ServiceImpl<DescService>> };
}

/** The handler of one method, bound to its service; undefined when the service leaves it out. */
export function handlerOf({ implementation }: RpcService, method: DescMethod): Handler | undefined {
  const handler = (implementation as Record<string, Handler | undefined>)[method.localName];
  return handler?.bind(implementation);
}

/** Whether the method answers with a stream. */
export function answersMany(method: DescMethod): boolean {
  return method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming";
}

function one(handler: Handler, translate: (cause: unknown) => ConnectError, authorize: Authorize): Handler {
  return async (request, context) => {
    try {
      await authorize(context);
      return await (handler(request, context) as Promise<Message>);
    } catch (cause) {
      throw translate(cause);
    }
  };
}

function many(handler: Handler, translate: (cause: unknown) => ConnectError, authorize: Authorize): Handler {
  return async function* (request, context) {
    try {
      await authorize(context);
      yield* handler(request, context) as Stream;
    } catch (cause) {
      throw translate(cause);
    }
  };
}
