import type { Command } from "commander";
import type { VerbRunner } from "../context.ts";
import { listOf, moneyCell, textCell, timeCell } from "../format.ts";
import { table, type Column } from "../table.ts";

const COLUMNS: readonly Column[] = [
  { title: "BUDGET" },
  { title: "WINDOW" },
  { title: "AMOUNT", right: true },
  { title: "SPENT", right: true },
  { title: "USED", right: true },
  { title: "LEASED", right: true },
  { title: "RESETS" },
];

/** Adds `budgets ls`. */
export function addBudgetVerbs(program: Command, runner: VerbRunner): void {
  const budgets = program.command("budgets").description("what tenants, teams and keys may spend");
  const list = budgets
    .command("ls")
    .description("every budget, what is spent and what ingresses hold")
    .option("--tenant <tenant>", "only this tenant's");
  runner.run(list, async ({ admin, print }, command) => {
    const { tenant } = command.opts<{ tenant?: string }>();
    const answer = await admin().call("GET", `/api/budgets${tenant === undefined ? "" : `?tenant=${encodeURIComponent(tenant)}`}`);
    await print(answer, () => {
      const rows = listOf(answer, "budgets").map((budget) => [
        textCell(budget["budget"]),
        textCell(budget["window"]),
        moneyCell(budget["amount_nano_usd"]),
        moneyCell(budget["spent_nano_usd"]),
        usedCell(budget["spent_nano_usd"], budget["amount_nano_usd"]),
        moneyCell(budget["leased_nano_usd"]),
        timeCell(budget["resets_at"]),
      ]);
      return rows.length === 0 ? "no budgets: write them under tenants in the configuration\n" : table(COLUMNS, rows);
    });
  });
}

function usedCell(spent: unknown, amount: unknown): string {
  const whole = Number(amount);
  return whole > 0 ? `${((Number(spent) / whole) * 100).toFixed(1)}%` : "-";
}
