export { Control, type ControlDeps } from "./control.ts";
export { digestOf, KEY_PREFIX, withoutDigest } from "./keys.ts";
export type { ReplicaStatus } from "./replicas.ts";
