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
export type { ControlPeer, ControlState, CreateKeyRequest, CreateKeyResponse, KeyRecord, RotateKeyResponse } from "./control.ts";
export type { HealthPeer, HealthSnapshot } from "./health.ts";
export type {
  BudgetState,
  CostQuery,
  CostRow,
  Entry,
  EntryFilter,
  InvoiceComparison,
  InvoiceDifference,
  InvoiceLine,
  InvoiceQuery,
  InvoiceSums,
  LeaseBudgetRequest,
  LeaseBudgetResponse,
  LedgerPeer,
  LedgerReport,
  PriceBook,
} from "./ledger.ts";
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
