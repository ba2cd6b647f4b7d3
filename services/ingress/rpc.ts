import type { IncomingHttpHeaders } from "node:http";
import type { HandlerContext } from "@connectrpc/connect";
import { InferenceService } from "#gen/signalbox/inference/v1/inference_service_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { type RpcService, rpcService } from "#libs/rpc/service.ts";
import type { InferenceCall } from "./inference.ts";
import type { IngressHost } from "./module.ts";

/** The InferenceService over an ingress: converts, and calls one domain function per method. */
export function inferenceRpc(host: Pick<IngressHost, "inference">): RpcService {
  return rpcService(InferenceService, {
    generate: (request, context) => host.inference.generate(request, callOf(context)),
    async *generateStream(message, context) {
      if (message.request === undefined) throw new SignalboxError("REQUEST_MALFORMED", "'request' is missing.", { param: "request" });
      yield* host.inference.generateStream(message.request, callOf(context));
    },
  });
}

function callOf(context: HandlerContext): InferenceCall {
  const headers: IncomingHttpHeaders = {};
  context.requestHeader.forEach((value, name) => {
    headers[name.toLowerCase()] = value;
  });
  return { headers, signal: context.signal, timeoutMs: context.timeoutMs() };
}
