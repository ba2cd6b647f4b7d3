export { SignalboxError, type ErrorDetail } from "./error.ts";
export { isReason, REASONS, type Reason, type ReasonRow } from "./reasons.ts";
