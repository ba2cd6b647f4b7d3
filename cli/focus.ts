import type { Fields } from "./format.ts";

/** What FOCUS rows are grouped by: one row per day and everything that can be charged. */
export const FOCUS_BY = ["day", "tenant", "team", "key_id", "model", "backend", "provider", "tags"] as const;

/** Columns of the FinOps Open Cost and Usage Specification 1.2 (https://focus.finops.org) that we can fill, in its order. */
export const FOCUS_COLUMNS = [
  "BilledCost",
  "BillingAccountId",
  "BillingAccountName",
  "BillingCurrency",
  "BillingPeriodEnd",
  "BillingPeriodStart",
  "ChargeCategory",
  "ChargeClass",
  "ChargeDescription",
  "ChargeFrequency",
  "ChargePeriodEnd",
  "ChargePeriodStart",
  "ConsumedQuantity",
  "ConsumedUnit",
  "ContractedCost",
  "EffectiveCost",
  "InvoiceIssuerName",
  "ListCost",
  "PricingCategory",
  "PricingQuantity",
  "PricingUnit",
  "ProviderName",
  "PublisherName",
  "ResourceId",
  "ResourceName",
  "ResourceType",
  "ServiceCategory",
  "ServiceName",
  "ServiceSubcategory",
  "SubAccountId",
  "SubAccountName",
  "Tags",
] as const;

const DAY_MS = 86_400_000;
/** In columns that may not be empty. */
const NOBODY = "unknown";

/** The heading of FOCUS CSV. */
export const FOCUS_HEADING = csv(FOCUS_COLUMNS, []);

/** Rows of `costs --by` {@link FOCUS_BY} as lines of FOCUS CSV, without the heading. Costs are exact decimals of US dollars; the same for list, contract and bill. */
export function focusLines(rows: readonly Fields[]): string {
  return csv(FOCUS_COLUMNS, rows.flatMap(chargesOf)).slice(FOCUS_HEADING.length);
}

/** A row's charges: what was used, and rent of idle machines as a charge of its own. */
function chargesOf(row: Fields): Fields[] {
  const idle = BigInt((row["idle_nano_usd"] ?? "0") as string);
  const used = BigInt(row["cost_nano_usd"] as string) - idle;
  const charges: Fields[] = [];
  const tokens = Number(row["input_tokens"]) + Number(row["output_tokens"]);
  const description = `${text(row["requests"])} requests to ${text(row["backend"])}`;
  if (tokens !== 0) charges.push(chargeOf(row, used, { quantity: tokens, unit: "Tokens", frequency: "Usage-Based", description }));
  else if (used !== 0n)
    charges.push(chargeOf(row, used, { quantity: Number(row["requests"]), unit: "Requests", frequency: "Usage-Based", description }));
  if (idle !== 0n)
    charges.push(
      chargeOf(row, idle, { quantity: 1, unit: "Days", frequency: "Recurring", description: `idle time of ${text(row["backend"])}` }),
    );
  return charges;
}

interface Charge {
  readonly quantity: number;
  /** One of the format's names of units, plural. */
  readonly unit: "Tokens" | "Requests" | "Days";
  readonly frequency: "Usage-Based" | "Recurring";
  readonly description: string;
}

function chargeOf(row: Fields, nanoUsd: bigint, { quantity, unit, frequency, description }: Charge): Fields {
  const startMs = Date.parse(`${text(row["day"])}T00:00:00Z`);
  const start = new Date(startMs);
  const cost = dollars(nanoUsd);
  const tenant = text(row["tenant"]) || NOBODY;
  const provider = text(row["provider"]) || NOBODY;
  const team = text(row["team"]);
  const month = (ahead: number): string => iso(Date.UTC(start.getUTCFullYear(), start.getUTCMonth() + ahead));
  return {
    BilledCost: cost,
    BillingAccountId: tenant,
    BillingAccountName: tenant,
    BillingCurrency: "USD",
    BillingPeriodEnd: month(1),
    BillingPeriodStart: month(0),
    ChargeCategory: "Usage",
    ChargeClass: "",
    ChargeDescription: description,
    ChargeFrequency: frequency,
    ChargePeriodEnd: iso(startMs + DAY_MS),
    ChargePeriodStart: iso(startMs),
    ConsumedQuantity: quantity,
    ConsumedUnit: unit,
    ContractedCost: cost,
    EffectiveCost: cost,
    InvoiceIssuerName: provider,
    ListCost: cost,
    PricingCategory: "Standard",
    PricingQuantity: quantity,
    PricingUnit: unit,
    ProviderName: provider,
    PublisherName: provider,
    ResourceId: text(row["backend"]),
    // A backend's only name is its id, and the format wants no name that repeats it.
    ResourceName: "",
    ResourceType: "Model backend",
    ServiceCategory: "AI and Machine Learning",
    ServiceName: text(row["model"]) || text(row["backend"]) || NOBODY,
    ServiceSubcategory: "Generative AI",
    SubAccountId: team,
    SubAccountName: team,
    // The caller's own, and ours with the prefix that the format asks of a provider's.
    Tags: JSON.stringify({ ...callerTags(row["tags"]), "signalbox/key_id": text(row["key_id"]), "signalbox/team": team }),
  };
}

function callerTags(given: unknown): Readonly<Record<string, string>> {
  return typeof given === "string" && given !== "" ? (JSON.parse(given) as Record<string, string>) : {};
}

/** Rows as CSV after RFC 4180, with a heading. Cells that a spreadsheet would take for a formula are defused. */
export function csv(columns: readonly string[], rows: readonly Fields[]): string {
  return [columns, ...rows.map((row) => columns.map((name) => row[name]))].map((cells) => `${cells.map(cell).join(",")}\r\n`).join("");
}

function cell(value: unknown): string {
  const raw = text(value);
  const safe = /^[=+@\t\r]|^-(?!\d)/.test(raw) ? `'${raw}` : raw;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function text(value: unknown): string {
  return value === undefined || value === null ? "" : `${value as string | number | bigint}`;
}

/** Exact decimal dollars of nano-USD. */
export function dollars(nanoUsd: bigint): string {
  const digits = (nanoUsd < 0n ? -nanoUsd : nanoUsd).toString().padStart(10, "0");
  return `${nanoUsd < 0n ? "-" : ""}${digits.slice(0, -9)}.${digits.slice(-9)}`;
}

function iso(atMs: number): string {
  return new Date(atMs).toISOString().replace(".000Z", "Z");
}
