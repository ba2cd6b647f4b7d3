import type { HealthSnapshot } from "#gen/signalbox/health/v1/health_service_pb.ts";

export type { HealthSnapshot };

/** The health monitor, near or far. Snapshots also arrive on the bus. */
export interface HealthPeer {
  snapshot(): Promise<HealthSnapshot>;
}
