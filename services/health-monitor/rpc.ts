import { HealthService } from "#gen/signalbox/health/v1/health_service_pb.ts";
import type { HealthPeer } from "#libs/peers/index.ts";
import { rpcService, type RpcService } from "#libs/rpc/service.ts";

/** The monitor's service. */
export function healthRpc(host: HealthPeer): RpcService {
  return rpcService(HealthService, {
    getSnapshot: async () => ({ snapshot: await host.snapshot() }),
  });
}
