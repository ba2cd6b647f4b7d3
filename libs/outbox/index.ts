export type { FileInfo, OutboxFile, OutboxFiles } from "./files.ts";
export { claimAbandoned, claimSlot, createNodeFiles } from "./node-files.ts";
export {
  openOutbox,
  type Durability,
  type Outbox,
  type OutboxCallback,
  type OutboxOptions,
  type OutboxStats,
  type StoredRecord,
} from "./outbox.ts";
export type { RecoveryReport } from "./recovery.ts";
export { createShipper, type Shipper, type ShipperDeps } from "./shipper.ts";
export { watchOutbox } from "./outbox-metrics.ts";
export { encodeAttemptRecord } from "./record-codec.ts";
