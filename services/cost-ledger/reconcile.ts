import type { Entry } from "#gen/signalbox/ledger/v1/ledger_pb.ts";

/** A provider's invoice line, as far as it can be matched. */
export interface InvoiceItem {
  /** The id we sent along with the call: the attempt. Empty when the provider did not keep it. */
  readonly attemptId: string;
  /** What the provider billed, nano-USD. */
  readonly costNanoUsd: bigint;
}

/** An attempt on which invoice and ledger disagree. */
export interface Difference {
  readonly attemptId: string;
  readonly invoicedNanoUsd: bigint;
  readonly bookedNanoUsd: bigint;
  /** not_booked: only the provider has it. not_invoiced: only the ledger. amount: both, unequal. estimated: as amount, where the ledger knew that it guessed. */
  readonly kind: "not_booked" | "not_invoiced" | "amount" | "estimated";
}

/** The comparison of an invoice with the ledger. */
export interface Reconciliation {
  readonly matched: number;
  readonly differences: readonly Difference[];
  readonly invoicedNanoUsd: bigint;
  readonly bookedNanoUsd: bigint;
  /** Invoice lines without an id, and their sum: they can only be compared in total. */
  readonly anonymous: number;
  readonly anonymousNanoUsd: bigint;
}

interface Booked {
  amount: bigint;
  estimated: boolean;
}

/** Compares an invoice with the entries of the same period and provider, attempt by attempt, to the nano-dollar. Reversals are netted; lines of one attempt are added up. */
export function reconcileInvoice(invoice: Iterable<InvoiceItem>, entries: Iterable<Entry>): Reconciliation {
  const booked = new Map<string, Booked>();
  let bookedNanoUsd = 0n;
  for (const { record, reverses } of entries) {
    if (record === undefined) continue;
    bookedNanoUsd += record.costNanoUsd;
    const known = booked.get(record.attemptId) ?? { amount: 0n, estimated: false };
    known.amount += record.costNanoUsd;
    known.estimated = reverses === "" && record.estimated;
    booked.set(record.attemptId, known);
  }
  const invoiced = new Map<string, bigint>();
  let invoicedNanoUsd = 0n;
  let anonymous = 0;
  let anonymousNanoUsd = 0n;
  for (const { attemptId, costNanoUsd } of invoice) {
    invoicedNanoUsd += costNanoUsd;
    if (attemptId === "") {
      anonymous++;
      anonymousNanoUsd += costNanoUsd;
    } else invoiced.set(attemptId, (invoiced.get(attemptId) ?? 0n) + costNanoUsd);
  }
  const differences: Difference[] = [];
  let matched = 0;
  for (const [attemptId, amount] of invoiced) {
    const own = booked.get(attemptId);
    booked.delete(attemptId);
    if (own?.amount === amount) matched++;
    else if (own === undefined) differences.push({ attemptId, invoicedNanoUsd: amount, bookedNanoUsd: 0n, kind: "not_booked" });
    else differences.push({ attemptId, invoicedNanoUsd: amount, bookedNanoUsd: own.amount, kind: own.estimated ? "estimated" : "amount" });
  }
  for (const [attemptId, own] of booked) {
    // An attempt that failed for free is on no invoice.
    if (own.amount !== 0n) differences.push({ attemptId, invoicedNanoUsd: 0n, bookedNanoUsd: own.amount, kind: "not_invoiced" });
  }
  return { matched, differences, invoicedNanoUsd, bookedNanoUsd, anonymous, anonymousNanoUsd };
}
