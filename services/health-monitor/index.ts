export { createHttpProbe } from "./http-probe.ts";
export { createHealthMonitor, type HealthHost, type HealthMonitorDeps } from "./module.ts";
export type { ProbeAnswer, ProbePort } from "./probe.ts";
export { healthRpc } from "./rpc.ts";
