export {
  CHAIN_START,
  chainHash,
  entryOf,
  PART,
  planEntries,
  type BookedAttempt,
  type BookingPlan,
  type ChainEnd,
  type ChainLink,
  type EntryRow,
  type PricedRecord,
} from "./plan.ts";
export { priceRecord, type CheckedRecord } from "./price-record.ts";
export { decodeRecordBatch, RECORD, type ReceivedRecord, type RecordBatch } from "./record-batch.ts";
