import type { Command } from "commander";
import type { VerbRunner } from "../context.ts";
import { listOf, moneyCell, textCell } from "../format.ts";
import { addPeriodOptions, periodQuery, type PeriodGiven } from "../period.ts";
import { parseList } from "../options.ts";
import { table, type Column } from "../table.ts";

const NUMBERS: readonly Column[] = [
  { title: "REQUESTS", right: true },
  { title: "INPUT", right: true },
  { title: "OUTPUT", right: true },
  { title: "COST", right: true },
  { title: "WASTE", right: true },
  { title: "BASELINE", right: true },
  { title: "SAVED", right: true },
];

/** Adds `costs`: what was spent, grouped, against the baseline. */
export function addCostVerb(program: Command, runner: VerbRunner): void {
  const costs = addPeriodOptions(
    program
      .command("costs")
      .description("what was spent, by any of tenant, team, model, backend, provider, key, a tag ...")
      .option("--by <names>", "what to group by, separated by commas", parseList, ["model"]),
  );
  runner.run(costs, async ({ admin, print }, command) => {
    const given = command.opts<PeriodGiven & { by: readonly string[] }>();
    const query = periodQuery(given);
    query.set("by", given.by.join(","));
    const answer = await admin().call("GET", `/api/costs?${query.toString()}`);
    const rows = listOf(answer, "rows");
    await print({ rows }, () => {
      const columns = [...given.by.map((name) => ({ title: name.toUpperCase() })), ...NUMBERS];
      const cells = rows.map((row) => [
        ...given.by.map((name) => textCell(row[name])),
        textCell(row["requests"]),
        textCell(row["input_tokens"]),
        textCell(row["output_tokens"]),
        moneyCell(row["cost_nano_usd"]),
        moneyCell(row["waste_nano_usd"]),
        moneyCell(row["baseline_nano_usd"]),
        savedCell(row["cost_nano_usd"], row["baseline_nano_usd"]),
      ]);
      return cells.length === 0 ? "nothing was spent in this period\n" : table(columns, cells);
    });
  });
}

/** Share of the baseline that was not spent; `-` without a baseline. */
function savedCell(cost: unknown, baseline: unknown): string {
  const spent = Number(cost);
  const wouldBe = Number(baseline);
  return wouldBe > 0 && Number.isFinite(spent) ? `${((1 - spent / wouldBe) * 100).toFixed(1)}%` : "-";
}
