import { Outcome, RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";

const OUTCOMES: Readonly<Record<Outcome, string>> = {
  [Outcome.UNSPECIFIED]: "unknown",
  [Outcome.OK]: "ok",
  [Outcome.FAILED]: "failed",
  [Outcome.CANCELED]: "canceled",
  [Outcome.HEDGE_LOST]: "hedge_lost",
  [Outcome.DEADLINE]: "deadline",
  [Outcome.VOID]: "void",
};

const CLASSES: Readonly<Record<RequestClass, string>> = {
  [RequestClass.UNSPECIFIED]: "",
  [RequestClass.SYSTEM]: "system",
  [RequestClass.INTERACTIVE]: "interactive",
  [RequestClass.STANDARD]: "standard",
  [RequestClass.BATCH]: "batch",
};

/** The word of an attempt's outcome. */
export function outcomeWord(outcome: Outcome): string {
  return OUTCOMES[outcome] ?? "unknown";
}

/** The word of a request class; empty = not known. */
export function classWord(requestClass: RequestClass): string {
  return CLASSES[requestClass] ?? "";
}
