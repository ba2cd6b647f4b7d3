import assert from "node:assert/strict";
import { test } from "node:test";
import { FOCUS_COLUMNS, FOCUS_HEADING, focusLines } from "./focus.ts";
import { costRow } from "./testing.ts";

/** Columns of FOCUS 1.2 whose feature level is Mandatory, and which of those may be null. */
const MANDATORY: Readonly<Record<string, "null" | "never null">> = {
  BilledCost: "never null",
  BillingAccountId: "never null",
  BillingAccountName: "null",
  BillingCurrency: "never null",
  BillingPeriodEnd: "never null",
  BillingPeriodStart: "never null",
  ChargeCategory: "never null",
  ChargeClass: "null",
  ChargeDescription: "null",
  ChargePeriodEnd: "never null",
  ChargePeriodStart: "never null",
  ContractedCost: "never null",
  EffectiveCost: "never null",
  InvoiceIssuerName: "never null",
  ListCost: "never null",
  PricingQuantity: "null",
  PricingUnit: "null",
  ProviderName: "never null",
  PublisherName: "never null",
  ServiceCategory: "never null",
  ServiceName: "never null",
};

const COSTS = ["BilledCost", "ContractedCost", "EffectiveCost", "ListCost"] as const;
const TIMES = ["BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"] as const;

const NOBODY = { tenant: "", team: "", key_id: "" };
const ROWS = [
  costRow({ requests: "2", cost_nano_usd: "3000000002" }),
  costRow({
    ...NOBODY,
    tenant: "system",
    model: "",
    requests: "0",
    input_tokens: "0",
    output_tokens: "0",
    cost_nano_usd: "-7",
    idle_nano_usd: "-7",
  }),
  costRow({
    ...NOBODY,
    day: "2026-02-28",
    model: "",
    backend: "",
    provider: "",
    requests: "3",
    input_tokens: "0",
    output_tokens: "0",
    cost_nano_usd: "250000000",
  }),
  costRow({ day: "2026-02-28", tenant: '=cmd("x"),', team: "a\nb", tags: '{"feature":"a \\"b\\", c","signalbox/team":"forged"}' }),
  costRow({ ...NOBODY, day: "2026-02-27", tenant: "t", requests: "0", input_tokens: "0", output_tokens: "0" }),
];

/** Reads CSV back, cell by cell. */
function charges(): Record<string, string>[] {
  const cells = [...`${FOCUS_HEADING}${focusLines(ROWS)}`.matchAll(/("(?:[^"]|"")*"|[^",\r\n]*)(,|\r\n)/g)].map(([, raw, end]) => ({
    text: raw!.startsWith('"') ? raw!.slice(1, -1).replaceAll('""', '"') : raw!,
    isLast: end !== ",",
  }));
  const lines: string[][] = [[]];
  for (const { text, isLast } of cells) {
    lines.at(-1)!.push(text);
    if (isLast) lines.push([]);
  }
  const [heading, ...rows] = lines.slice(0, -1);
  assert.deepEqual(heading, [...FOCUS_COLUMNS]);
  return rows.map((row) => Object.fromEntries(heading!.map((name, at) => [name, row[at]!])));
}

test("every mandatory column of FOCUS 1.2 is there, and filled where it may not be null", () => {
  const rows = charges();
  assert.equal(rows.length, 4, "what used nothing and cost nothing is no charge");
  for (const [name, nulls] of Object.entries(MANDATORY)) {
    assert.ok((FOCUS_COLUMNS as readonly string[]).includes(name), name);
    for (const row of rows) assert.ok(nulls === "null" || row[name] !== "", name);
  }
  assert.equal(new Set(FOCUS_COLUMNS).size, FOCUS_COLUMNS.length);
});

test("every value is one that FOCUS allows", () => {
  for (const row of charges()) {
    const value = (name: (typeof FOCUS_COLUMNS)[number]): string => row[name]!;
    for (const name of COSTS) assert.match(value(name), /^-?\d+(\.\d+)?$/, name);
    for (const name of TIMES) assert.match(value(name), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, name);
    assert.ok(value("BillingPeriodStart") <= value("ChargePeriodStart") && value("ChargePeriodEnd") <= value("BillingPeriodEnd"));
    assert.equal(Date.parse(value("ChargePeriodEnd")) - Date.parse(value("ChargePeriodStart")), 86_400_000);
    assert.match(value("BillingPeriodStart"), /-01T00:00:00Z$/);
    assert.match(value("BillingCurrency"), /^[A-Z]{3}$/);
    assert.equal(value("ChargeCategory"), "Usage");
    assert.ok(["", "Correction"].includes(value("ChargeClass")));
    assert.ok(["One-Time", "Recurring", "Usage-Based"].includes(value("ChargeFrequency")));
    assert.ok(["Standard", "Dynamic", "Committed", "Other"].includes(value("PricingCategory")));
    assert.equal(value("ServiceCategory"), "AI and Machine Learning");
    assert.equal(value("ServiceSubcategory"), "Generative AI");
    for (const [quantity, unit] of [
      ["PricingQuantity", "PricingUnit"],
      ["ConsumedQuantity", "ConsumedUnit"],
    ] as const) {
      assert.match(value(quantity), /^\d+(\.\d+)?$/);
      assert.match(value(unit), /^(Tokens|Requests|Days)$/);
    }
    assert.equal(value("SubAccountName") === "", value("SubAccountId") === "", "named when, and only when, there is one");
    assert.equal(value("ResourceType") === "", false);
    assert.notEqual(value("ResourceName"), value("ResourceId") || "-", "a name does not repeat the id");
    const tags = JSON.parse(value("Tags")) as Record<string, unknown>;
    for (const [key, tag] of Object.entries(tags)) {
      assert.match(key, /^signalbox\/|^feature$/);
      assert.equal(typeof tag, "string");
    }
    assert.equal(tags["signalbox/team"], value("SubAccountId"), "no caller writes our tags");
  }
});

test("charges add up to the rows to the nano-dollar", () => {
  const billed = charges().reduce((sum, row) => sum + BigInt(row["BilledCost"]!.replace(".", "")), 0n);
  assert.equal(billed, ROWS.reduce((sum, row) => sum + BigInt(row["cost_nano_usd"]!), 0n)); // prettier-ignore
});

test("a charge carries its caller's tags as they were sent", () => {
  const tagged = charges().filter((row) => (JSON.parse(row["Tags"]!) as Record<string, string>)["feature"] === 'a "b", c');
  assert.equal(tagged.length, 1);
});
