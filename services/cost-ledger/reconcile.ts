import { create } from "@bufbuild/protobuf";
import type { Entry } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import {
  InvoiceDifferenceSchema,
  InvoiceSumsSchema,
  type InvoiceDifference,
  type InvoiceLine,
} from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { costOf, type PriceIndex, type UsageTokens } from "#libs/money/index.ts";
import type { InvoiceComparison } from "#libs/peers/index.ts";

/** not_booked: only the invoice has it. not_invoiced: only the ledger. amount: both, unequal. estimated: as amount, where the ledger knew that it guessed. */
type DifferenceKind = "not_booked" | "not_invoiced" | "amount" | "estimated";

/** The prices a line is computed with: those the attempt was admitted under, else those in force. */
export type PricesOf = (version: string | undefined) => PriceIndex | undefined;

interface Booked {
  readonly attemptId: string;
  amount: bigint;
  /** The last entry's record. */
  record: NonNullable<Entry["record"]>;
  estimated: boolean;
  invoiced: bigint | undefined;
  readonly details: string[];
}

/**
 * Compares an invoice with the entries of the same period and providers, attempt by attempt, to the nano-dollar. Lines are
 * matched by our id, else by the provider's response id; several lines of one attempt are added up, reversals are netted.
 * A line without an amount is priced by its tokens. Throws REQUEST_MALFORMED where that is not possible.
 */
export function reconcileInvoice(
  invoice: Iterable<InvoiceLine>,
  entries: Iterable<Entry>,
  pricesOf: PricesOf,
  nowMs: number,
): InvoiceComparison {
  const byAttempt = new Map<string, Booked>();
  const byResponse = new Map<string, Booked>();
  const sums = create(InvoiceSumsSchema);
  for (const { record, reverses } of entries) {
    // Rent is on nobody's invoice by request.
    if (record === undefined || record.purpose === "idle") continue;
    sums.bookedNanoUsd += record.costNanoUsd;
    let own = byAttempt.get(record.attemptId);
    if (own === undefined) {
      own = { attemptId: record.attemptId, amount: 0n, record, estimated: false, invoiced: undefined, details: [] };
      byAttempt.set(record.attemptId, own);
    }
    own.amount += record.costNanoUsd;
    own.record = record;
    own.estimated = reverses === "" && record.estimated;
    if (record.responseId !== "") byResponse.set(record.responseId, own);
  }
  const differences: InvoiceDifference[] = [];
  const differ = (kind: DifferenceKind, parts: Omit<Partial<InvoiceDifference>, "$typeName" | "$unknown" | "kind">): void => {
    const difference = create(InvoiceDifferenceSchema, { ...parts, kind });
    differences.push(difference);
    sums.differing++;
    sums.byKind[kind] = (sums.byKind[kind] ?? 0n) + difference.invoicedNanoUsd - difference.bookedNanoUsd;
  };
  for (const line of invoice) {
    const own = byAttempt.get(line.attemptId) ?? byResponse.get(line.responseId);
    const amount = amountOf(line, own, pricesOf, nowMs);
    sums.invoicedNanoUsd += amount;
    if (line.attemptId === "" && line.responseId === "") {
      sums.anonymous++;
      sums.anonymousNanoUsd += amount;
    } else if (own === undefined) {
      const { attemptId, responseId, backend } = line;
      if (amount === 0n) sums.matched++;
      else differ("not_booked", { attemptId, responseId, backend, invoicedNanoUsd: amount, detail: "the ledger has no entry of it" });
    } else {
      own.invoiced = (own.invoiced ?? 0n) + amount;
      if (line.usage) own.details.push(...tokenDifferences(line.usage, own.record.usage));
      if (line.unstated) own.details.push("the provider never stated this usage to the caller");
    }
  }
  for (const own of byAttempt.values()) {
    const { attemptId, amount, record, invoiced } = own;
    const common = { attemptId, responseId: record.responseId, backend: record.backend, bookedNanoUsd: amount };
    if (invoiced === amount || (invoiced === undefined && amount === 0n)) {
      // An attempt that failed for free is on no invoice.
      if (invoiced !== undefined) sums.matched++;
    } else if (invoiced === undefined) {
      differ("not_invoiced", { ...common, detail: own.estimated ? "booked as an estimate" : `outcome ${record.purpose || "unknown"}` });
    } else {
      if (record.unpriced) own.details.push("booked without a price");
      const detail = own.details.join("; ") || `same tokens, other price (${record.priceVersion.slice(0, 12)}, ${record.priceGrade})`;
      differ(own.estimated ? "estimated" : "amount", { ...common, invoicedNanoUsd: invoiced, detail });
    }
  }
  return { differences, sums };
}

/** What a line bills: as stated, else its tokens at the price the attempt was admitted under. */
function amountOf(line: InvoiceLine, own: Booked | undefined, pricesOf: PricesOf, nowMs: number): bigint {
  if (line.costNanoUsd !== undefined) return line.costNanoUsd;
  const index = pricesOf(own?.record.priceVersion) ?? pricesOf(undefined);
  const backend = own?.record.backend ?? line.backend;
  const atMs = own === undefined ? nowMs : Number(own.record.startedAtUs / 1000n);
  const cost = line.usage && index ? costOf(index, backend, line.usage, atMs, own?.record.gpuSeconds) : undefined;
  if (cost === undefined || cost.grade === "unknown") {
    const what = line.attemptId || line.responseId || "a line without an id";
    throw new SignalboxError("REQUEST_MALFORMED", `${what}: no amount, and no price for the tokens of backend ${JSON.stringify(backend)}`, {
      param: "invoice",
    });
  }
  return cost.nanoUsd;
}

const CLASSES: readonly (readonly [keyof UsageTokens, string])[] = [
  ["inputTokens", "input"],
  ["cacheReadTokens", "cache read"],
  ["cacheWriteTokens", "cache write"],
  ["cacheWrite1hTokens", "cache write 1h"],
  ["outputTokens", "output"],
];

function tokenDifferences(invoiced: UsageTokens, booked: UsageTokens | undefined): readonly string[] {
  return CLASSES.filter(([name]) => invoiced[name] !== (booked?.[name] ?? 0)).map(
    ([name, word]) => `${word} tokens ${String(invoiced[name])} invoiced, ${String(booked?.[name] ?? 0)} booked`,
  );
}
