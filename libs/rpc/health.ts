import { Code, ConnectError } from "@connectrpc/connect";
import { Health, HealthCheckResponse_ServingStatus as Status } from "#gen/grpc/health/v1/health_pb.ts";
import type { Clock } from "#libs/clock/index.ts";
import { rpcService, type RpcService } from "./service.ts";

/** How often a watcher's status is looked at, ms. */
const WATCH_EVERY_MS = 250;

/** What the health service tells of. */
export interface Serving {
  /** Whether the process can serve. */
  serving(): boolean;
  /** Whether the listener is going: a watch then ends after its last status. */
  ending(): boolean;
}

/** grpc.health.v1: the process as a whole ("") and each of its services by name, all with one status. */
export function healthService(names: ReadonlySet<string>, process: Serving, clock: Clock): RpcService {
  const statusOf = (service: string): Status => {
    if (service !== "" && !names.has(service)) return Status.SERVICE_UNKNOWN;
    return process.serving() && !process.ending() ? Status.SERVING : Status.NOT_SERVING;
  };
  return rpcService(Health, {
    check({ service }) {
      const status = statusOf(service);
      if (status === Status.SERVICE_UNKNOWN) throw new ConnectError(`no service ${service}`, Code.NotFound);
      return { status };
    },
    async *watch({ service }, { signal }) {
      let last: Status | undefined;
      while (!signal.aborted) {
        const status = statusOf(service);
        if (status !== last) yield { status };
        last = status;
        if (process.ending()) return;
        await clock.sleep(WATCH_EVERY_MS, signal).catch(() => {});
      }
    },
  });
}
