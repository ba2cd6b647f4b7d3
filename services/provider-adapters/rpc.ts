import { type AttemptEnd, AttemptDataSchema, AttemptEndSchema, type AttemptOpen } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import {
  AdapterService,
  type AttemptResponse,
  AttemptResponseSchema,
  DescribeResponseSchema,
} from "#gen/signalbox/adapter/v1/adapter_service_pb.ts";
import type { AdapterHost, AttemptData } from "#libs/peers/index.ts";
import { type RpcService, rpcService } from "#libs/rpc/service.ts";
import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";

/**
 * What a replica serves, and single attempts as server streams for clients that are no ingress. The multiplexed stream of the
 * ingresses is served by libs/rpc from the host itself.
 */
export function adapterRpc(host: AdapterHost): RpcService {
  return rpcService(AdapterService, {
    describe: () =>
      create(DescribeResponseSchema, {
        replicaId: host.replica,
        backends: [...host.backends()],
        inFlight: host.inFlight(),
        draining: host.draining,
      }),
    attempt: (open: AttemptOpen, context: HandlerContext) => attemptEvents(host, open, context.signal),
  });
}

/** One attempt as a stream of its data and its end. Reading grants; giving up the stream cancels. */
async function* attemptEvents(host: AdapterHost, open: AttemptOpen, signal: AbortSignal): AsyncGenerator<AttemptResponse> {
  const waiting: (AttemptData | AttemptEnd)[] = [];
  let wake: () => void = () => {};
  const take = (event: AttemptData | AttemptEnd): void => {
    waiting.push(event);
    wake();
  };
  const handle = host.attempt(open, { data: take, end: take });
  const cancel = (): void => handle.cancel("canceled");
  signal.addEventListener("abort", cancel);
  try {
    for (;;) {
      const event = waiting.shift();
      if (event === undefined) {
        await new Promise<void>((resolve) => (wake = resolve));
        continue;
      }
      if (event.$typeName === "signalbox.adapter.v1.AttemptEnd") {
        yield create(AttemptResponseSchema, { event: { case: "end", value: create(AttemptEndSchema, event) } });
        return;
      }
      yield create(AttemptResponseSchema, { event: { case: "data", value: create(AttemptDataSchema, event) } });
      handle.consumed(event.data.length);
    }
  } finally {
    signal.removeEventListener("abort", cancel);
    handle.cancel("canceled");
  }
}
