import type { Command } from "commander";
import type { AdminClient } from "../admin-client.ts";
import type { VerbRunner } from "../context.ts";
import { CliError, EXIT } from "../exit.ts";
import { csv, FOCUS_BY, FOCUS_HEADING, focusLines } from "../focus.ts";
import type { CliIo } from "../io.ts";
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
const DAY_MS = 86_400_000;
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
        "tenant, team, key, model, backend, provider, experiment, arm, month, day, hour, purpose, outcome, tag:NAME, tags; separated by commas",
        parseList,
        ["model"],
      )
      .option("--csv", "the rows as CSV, costs in nano-dollars")
      .option("--focus", "daily charges in the FOCUS 1.2 format (CSV)"),
  );
  runner.run(costs, async ({ admin, io, print }, command) => {
    const given = command.opts<PeriodGiven & { by: readonly string[]; csv?: boolean; focus?: boolean }>();
    const query = periodQuery(given);
    if (given.focus === true) return printFocus(io, admin(), given);
    query.set("by", given.by.join(","));
    const { rows, unpriced } = await costsOf(admin(), query);
    if (given.csv === true) {
      if (unpriced.length > 0) io.err(unpricedText(unpriced));
      return io.out(csv([...given.by, ...SUMS], rows));
    }
    await print({ rows, unpriced }, () => {
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
      return cells.length === 0
        ? "nothing was spent in this period\n"
        : `${table(columns, cells)}${savings(rows)}${unpricedText(unpriced)}`;
    });
  });
}

/** Sums, and the backends whose attempts they miss something of. */
interface Costs {
  readonly rows: readonly Fields[];
  readonly unpriced: readonly Fields[];
}

async function costsOf(client: AdminClient, query: URLSearchParams): Promise<Costs> {
  const costs = await tryCosts(client, query);
  if (costs) return costs;
  throw new CliError(EXIT.failed, `more than ${ROWS_MAX} rows: ask for a shorter period (--since, --until) or fewer names (--by)`);
}

/** Undefined when there are more rows than one answer holds. */
async function tryCosts(client: AdminClient, query: URLSearchParams): Promise<Costs | undefined> {
  query.set("limit", String(ROWS_MAX));
  const answer = await client.call("GET", `/api/costs?${query.toString()}`);
  const rows = listOf(answer, "rows");
  return rows.length < ROWS_MAX ? { rows, unpriced: listOf(answer, "unpriced") } : undefined;
}

/** Day by day: tags are summed from the entries, and a day of them is quickly read. */
async function printFocus(io: CliIo, client: AdminClient, given: PeriodGiven): Promise<void> {
  const all = periodQuery(given);
  all.set("by", "day");
  const { rows: days, unpriced } = await costsOf(client, all);
  if (unpriced.length > 0) io.err(unpricedText(unpriced));
  await io.out(FOCUS_HEADING);
  for (const day of days.map((row) => textCell(row["day"])).toSorted()) {
    const query = new URLSearchParams({ by: FOCUS_BY.join(","), ...clippedDay(day, given) });
    let costs = await tryCosts(client, query);
    if (costs === undefined) {
      io.err(`${day}: too many different tags for one charge each; its charges come without them\n`);
      query.set("by", FOCUS_BY.filter((name) => name !== "tags").join(","));
      costs = await costsOf(client, query);
    }
    await io.out(focusLines(costs.rows));
  }
}

/** A UTC day as far as it lies in the period. */
function clippedDay(day: string, { since, until }: PeriodGiven): { since: string; until: string } {
  const startMs = Date.parse(`${day}T00:00:00Z`);
  const fromMs = Math.max(startMs, since === undefined ? startMs : Date.parse(since));
  const endMs = startMs + DAY_MS;
  const untilMs = Math.min(endMs, until === undefined ? endMs : Date.parse(until));
  return { since: new Date(fromMs).toISOString(), until: new Date(untilMs).toISOString() };
}

/** Who used something without a price, one line each; sums without it look like sums. */
function unpricedText(unpriced: readonly Fields[]): string {
  return unpriced
    .map(({ backend, attempts }) => `not complete: ${textCell(attempts)} attempts of ${textCell(backend)} used something without a price\n`)
    .join("");
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
