import type { Command } from "commander";
import type { AdminClient } from "../admin-client.ts";
import type { VerbRunner } from "../context.ts";
import { CliError, EXIT } from "../exit.ts";
import { csv, FOCUS_BY, focusCsv } from "../focus.ts";
import { listOf, moneyCell, textCell, type Fields } from "../format.ts";
import { addPeriodOptions, periodQuery, type PeriodGiven } from "../period.ts";
import { parseList } from "../options.ts";
import { table, type Column } from "../table.ts";

/** Sums of a row, as the admin API names them. */
const SUMS = [
  "requests",
  "attempts",
  "input_tokens",
  "output_tokens",
  "cost_nano_usd",
  "waste_nano_usd",
  "baseline_nano_usd",
  "idle_nano_usd",
];
/** Rows of one answer: a month of days of a large installation. What does not fit is refused: sums of a part look like sums. */
const ROWS_MAX = 100_000;

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
      .option(
        "--by <names>",
        "tenant, team, key, model, backend, provider, experiment, arm, month, day, hour, purpose, outcome, tag:NAME; separated by commas",
        parseList,
        ["model"],
      )
      .option("--csv", "the rows as CSV, costs in nano-dollars")
      .option("--focus", "daily charges in the FOCUS 1.2 format (CSV)"),
  );
  runner.run(costs, async ({ admin, io, print }, command) => {
    const given = command.opts<PeriodGiven & { by: readonly string[]; csv?: boolean; focus?: boolean }>();
    const query = periodQuery(given);
    if (given.csv === true || given.focus === true) {
      const by: readonly string[] = given.focus === true ? FOCUS_BY : given.by;
      query.set("by", by.join(","));
      const rows = await rowsOf(admin(), query);
      return io.out(given.focus === true ? focusCsv(rows) : csv([...by, ...SUMS], rows));
    }
    query.set("by", given.by.join(","));
    const rows = await rowsOf(admin(), query);
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
      return cells.length === 0 ? "nothing was spent in this period\n" : `${table(columns, cells)}${savings(rows)}`;
    });
  });
}

async function rowsOf(client: AdminClient, query: URLSearchParams): Promise<readonly Fields[]> {
  query.set("limit", String(ROWS_MAX));
  const rows = listOf(await client.call("GET", `/api/costs?${query.toString()}`), "rows");
  if (rows.length < ROWS_MAX) return rows;
  throw new CliError(EXIT.failed, `more than ${ROWS_MAX} rows: ask for a shorter period (--since, --until) or fewer names (--by)`);
}

/** What all rows together saved against the baseline: with the rent of idle machines, and, where there is some, without. */
function savings(rows: readonly Fields[]): string {
  const sum = (name: string): bigint => rows.reduce((total, row) => total + BigInt((row[name] ?? "0") as string), 0n);
  const [cost, idle, baseline] = [sum("cost_nano_usd"), sum("idle_nano_usd"), sum("baseline_nano_usd")];
  const line = (title: string, spent: bigint): string =>
    `${title} ${moneyCell(spent)} of ${moneyCell(baseline)}: saved ${moneyCell(baseline - spent)} (${savedCell(spent, baseline)})\n`;
  const total = `\ntotal ${moneyCell(cost)}, waste ${moneyCell(sum("waste_nano_usd"))}${idle === 0n ? "" : `, idle ${moneyCell(idle)}`}\n`;
  if (baseline === 0n) return total;
  return idle === 0n ? `${total}${line("spent", cost)}` : `${total}${line("with idle", cost)}${line("without idle", cost - idle)}`;
}

/** Share of the baseline that was not spent; `-` without a baseline. */
function savedCell(cost: unknown, baseline: unknown): string {
  const spent = Number(cost);
  const wouldBe = Number(baseline);
  return wouldBe > 0 && Number.isFinite(spent) ? `${((1 - spent / wouldBe) * 100).toFixed(1)}%` : "-";
}
