export {
  ATTEMPT_WINDOW_BYTES,
  type AdapterHost,
  type AdapterPeer,
  type AttemptData,
  type AttemptEnd,
  type AttemptHandle,
  type AttemptOpen,
  type AttemptSink,
  type CancelReason,
} from "./adapter.ts";
export type { ControlPeer, ControlState, CreateKeyRequest, CreateKeyResponse, KeyRecord } from "./control.ts";
export type { HealthPeer, HealthSnapshot } from "./health.ts";
export type { CostQuery, CostRow, Entry, EntryFilter, LedgerPeer, PriceBook } from "./ledger.ts";
export type {
  AttemptReport,
  DecideRequest,
  DecideTicket,
  Decision,
  DecisionRecord,
  ExplainPeer,
  PolicyFallback,
  PolicyHost,
  PolicyPeer,
  PolicySession,
} from "./policy.ts";
