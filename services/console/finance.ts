import { type IncomingMessage } from "node:http";
import { SignalboxError } from "#libs/errors/index.ts";
import { parseInvoice } from "#libs/money/index.ts";
import type { BudgetState, CostRow, InvoiceDifference, LedgerPeer, LedgerReport } from "#libs/peers/index.ts";
import { type AdminCall, periodOf } from "./call.ts";
import { sendJson } from "./http.ts";

/** An invoice of half a million calls; the ledger's own message bound lies below what it becomes. */
const INVOICE_MAX_BYTES = 128 * 1024 * 1024;

/** Sums by groups; `by` is a comma-separated list, `limit` the most rows. `unpriced` says which backends' attempts the sums miss something of. */
export async function sendCosts(ledger: LedgerPeer, { response, query }: AdminCall): Promise<void> {
  const by = (query.get("by") ?? "model").split(",").filter((name) => name !== "");
  const limit = query.get("limit");
  if (limit !== null && !/^\d{1,6}$/.test(limit))
    throw new SignalboxError("REQUEST_MALFORMED", "limit is a number of rows.", { param: "limit" });
  const period = periodOf(query);
  const [rows, unpriced] = await Promise.all([
    ledger.costs({ by, ...period, ...(limit === null ? {} : { limit: Number(limit) }) }),
    ledger.costs({ by: ["backend"], ...period, unpricedOnly: true }),
  ]);
  sendJson(response, 200, {
    rows: rows.map((row) => costJson(row, by)),
    unpriced: unpriced.map(({ group, attempts }) => ({ backend: group[0], attempts: String(attempts) })),
  });
}

function costJson(row: CostRow, by: readonly string[]): Record<string, unknown> {
  return {
    ...Object.fromEntries(by.map((name, index) => [name, row.group[index] ?? ""])),
    requests: String(row.requests),
    attempts: String(row.attempts),
    input_tokens: String(row.inputTokens),
    output_tokens: String(row.outputTokens),
    cost_nano_usd: String(row.costNanoUsd),
    waste_nano_usd: String(row.wasteNanoUsd),
    baseline_nano_usd: String(row.baselineNanoUsd),
    idle_nano_usd: String(row.idleNanoUsd),
  };
}

/** Verifies the ledger. One JSON object; with `progress`, lines of `{"entries": n}` before it. */
export async function sendVerification(ledger: LedgerPeer, { response, query }: AdminCall): Promise<void> {
  if (!query.has("progress")) return sendJson(response, 200, reportJson(await ledger.verify()));
  let open = false;
  const line = (value: unknown): void => {
    if (!open) response.writeHead(200, { "content-type": "application/x-ndjson", "cache-control": "no-store" });
    open = true;
    response.write(`${JSON.stringify(value)}\n`);
  };
  const report = await ledger.verify((entries) => line({ entries: String(entries) }));
  line(reportJson(report));
  response.end();
}

function reportJson(report: LedgerReport): Record<string, unknown> {
  return {
    ok: report.problemCount === 0n,
    entries: String(report.entries),
    problem_count: String(report.problemCount),
    problems: report.problems.map(({ sequence, kind, detail }) => ({ sequence: String(sequence), kind, detail })),
    head: report.head,
    cost_nano_usd: String(report.costNanoUsd),
    sums: Object.fromEntries(report.sums.map(({ by, costNanoUsd }) => [by, String(costNanoUsd)])),
  };
}

/** Compares the invoice in the body (JSON, JSON lines or CSV) with the entries of `since`..`until`, of the providers or backends in `only`. */
export async function sendReconciliation(ledger: LedgerPeer, { request, response, query }: AdminCall): Promise<void> {
  const only = (query.get("only") ?? "").split(",").filter((name) => name !== "");
  const lines = parseInvoice(await readText(request));
  const { differences, sums } = await ledger.reconcile({ lines, only, ...periodOf(query) });
  sendJson(response, 200, {
    ok: sums.differing === 0n && sums.anonymous === 0n,
    matched: String(sums.matched),
    differing: String(sums.differing),
    invoiced_nano_usd: String(sums.invoicedNanoUsd),
    booked_nano_usd: String(sums.bookedNanoUsd),
    anonymous: String(sums.anonymous),
    anonymous_nano_usd: String(sums.anonymousNanoUsd),
    by_kind: Object.fromEntries(Object.entries(sums.byKind).map(([kind, nano]) => [kind, String(nano)])),
    differences: differences.map(differenceJson),
  });
}

function differenceJson(difference: InvoiceDifference): Record<string, unknown> {
  return {
    kind: difference.kind,
    attempt_id: difference.attemptId,
    response_id: difference.responseId,
    backend: difference.backend,
    invoiced_nano_usd: String(difference.invoicedNanoUsd),
    booked_nano_usd: String(difference.bookedNanoUsd),
    detail: difference.detail,
  };
}

/** Budgets with what is spent and leased in their current window. */
export async function sendBudgets(ledger: LedgerPeer, { response, query }: AdminCall): Promise<void> {
  const budgets = await ledger.budgets(query.get("tenant") ?? undefined);
  sendJson(response, 200, { budgets: budgets.map(budgetJson) });
}

function budgetJson(budget: BudgetState): Record<string, unknown> {
  return {
    budget: budget.budget,
    tenant: budget.tenant,
    team: budget.team,
    key_id: budget.keyId,
    period: budget.period,
    mode: budget.mode,
    amount_nano_usd: String(budget.amountNanoUsd),
    spent_nano_usd: String(budget.spentNanoUsd),
    leased_nano_usd: String(budget.leasedNanoUsd),
    window: budget.window,
    resets_at: budget.resetsAtMs === 0 ? null : new Date(budget.resetsAtMs).toISOString(),
  };
}

async function readText(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > INVOICE_MAX_BYTES)
      throw new SignalboxError(
        "REQUEST_TOO_LARGE",
        `An invoice may have ${INVOICE_MAX_BYTES} bytes; send it in parts, each with its period.`,
      );
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
