import { Code, ConnectError } from "@connectrpc/connect";
import { Health, HealthCheckResponse_ServingStatus as Serving } from "#gen/grpc/health/v1/health_pb.ts";
import type { Clock } from "#libs/clock/index.ts";
import { rpcService, type RpcService } from "./service.ts";

/** How often a watcher's status is looked at, ms. */
const WATCH_EVERY_MS = 250;

/** grpc.health.v1: the process as a whole ("") and each of its services by name, all with one status. */
export function healthService(names: ReadonlySet<string>, serving: () => boolean, clock: Clock): RpcService {
  const statusOf = (service: string): Serving => {
    if (service !== "" && !names.has(service)) return Serving.SERVICE_UNKNOWN;
    return serving() ? Serving.SERVING : Serving.NOT_SERVING;
  };
  return rpcService(Health, {
    check({ service }) {
      const status = statusOf(service);
      if (status === Serving.SERVICE_UNKNOWN) throw new ConnectError(`no service ${service}`, Code.NotFound);
      return { status };
    },
    async *watch({ service }, { signal }) {
      let last: Serving | undefined;
      while (!signal.aborted) {
        const status = statusOf(service);
        if (status !== last) yield { status };
        last = status;
        await clock.sleep(WATCH_EVERY_MS, signal).catch(() => {});
      }
    },
  });
}
