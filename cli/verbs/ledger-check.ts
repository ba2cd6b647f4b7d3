import { readFileSync } from "node:fs";
import type { Command } from "commander";
import type { VerbContext, VerbRunner } from "../context.ts";
import { CliError, EXIT } from "../exit.ts";
import { fieldsOf, listOf, moneyCell, textCell, type Fields } from "../format.ts";
import { linesOf } from "../lines.ts";
import { addPeriodOptions, periodQuery, type PeriodGiven } from "../period.ts";
import { createProgress } from "../progress.ts";
import { table, type Column } from "../table.ts";

const PROBLEMS: readonly Column[] = [{ title: "ENTRY", right: true }, { title: "KIND" }, { title: "WHAT" }];
const DIFFERENCES: readonly Column[] = [
  { title: "KIND" },
  { title: "ATTEMPT" },
  { title: "RESPONSE" },
  { title: "BACKEND" },
  { title: "INVOICED", right: true },
  { title: "BOOKED", right: true },
  { title: "WHY" },
];
/** Rows shown in a table; -o json has all. */
const SHOWN_MAX = 100;

/** Adds `ledger verify` and `ledger reconcile` to the ledger's verbs. */
export function addLedgerCheckVerbs(program: Command, runner: VerbRunner): void {
  const ledger = program.commands.find((command) => command.name() === "ledger")!;
  const verify = ledger.command("verify").description("check the hash chain, the columns, the roll-ups and that every sum is the total");
  runner.run(verify, verifyLedger);
  const reconcile = addPeriodOptions(
    ledger
      .command("reconcile <invoice>")
      .description("compare an invoice (a JSON or CSV file, or a URL such as the simulator's /invoice) with the entries")
      .option("--only <names>", "only entries of these providers or backends, separated by commas"),
  );
  runner.run(reconcile, reconcileInvoice);
}

async function verifyLedger({ admin, io, print }: VerbContext): Promise<number> {
  const client = admin();
  const total = Number((await client.call("GET", "/api/ledger/summary"))["entries"]) || 0;
  const progress = createProgress(io, "entries", total);
  let report: Fields = {};
  let walked = 0;
  try {
    for await (const line of linesOf(await client.stream("/api/ledger/verify?progress=1"))) {
      if (line === "") continue;
      report = fieldsOf(JSON.parse(line));
      progress.add(Number(report["entries"]) - walked);
      walked = Number(report["entries"]);
    }
  } finally {
    progress.end();
  }
  if (typeof report["ok"] !== "boolean") throw new CliError(EXIT.failed, "the verification broke off before its end");
  await print(report, () => {
    const sums = fieldsOf(report["sums"]);
    const head = `${textCell(report["entries"])} entries, ${moneyCell(report["cost_nano_usd"])} in all\n`;
    const cuts = Object.entries(sums).map(([by, cost]) => `  by ${by.padEnd(8)} ${moneyCell(cost)}\n`);
    if (report["ok"] === true) return `${head}${cuts.join("")}the ledger is sound; its head is ${textCell(report["head"])}\n`;
    const rows = listOf(report, "problems").map((problem) => [
      textCell(problem["sequence"]),
      textCell(problem["kind"]),
      textCell(problem["detail"]),
    ]);
    return `${head}${cuts.join("")}${table(PROBLEMS, rows.slice(0, SHOWN_MAX))}${textCell(report["problem_count"])} problems: this ledger was changed\n`;
  });
  return report["ok"] === true ? EXIT.ok : EXIT.failed;
}

async function reconcileInvoice({ admin, io, print }: VerbContext, command: Command): Promise<number> {
  const given = command.opts<PeriodGiven & { only?: string }>();
  const query = periodQuery(given);
  if (given.only !== undefined) query.set("only", given.only);
  const text = await invoiceText(command.args[0] ?? "", io.fetch);
  const answer = await admin().upload(`/api/ledger/reconcile?${query.toString()}`, text);
  await print(answer, () => {
    const rows = listOf(answer, "differences").map((difference) => [
      textCell(difference["kind"]),
      textCell(difference["attempt_id"]),
      textCell(difference["response_id"]),
      textCell(difference["backend"]),
      moneyCell(difference["invoiced_nano_usd"]),
      moneyCell(difference["booked_nano_usd"]),
      textCell(difference["detail"]),
    ]);
    const kinds = Object.entries(fieldsOf(answer["by_kind"])).map(([kind, nano]) => `  ${kind}: ${moneyCell(nano)}\n`);
    const more = rows.length > SHOWN_MAX ? `  ... ${rows.length - SHOWN_MAX} more, see -o json\n` : "";
    const anonymous = Number(answer["anonymous"]);
    return [
      rows.length > 0 ? table(DIFFERENCES, rows.slice(0, SHOWN_MAX)) : "",
      more,
      `invoice ${moneyCell(answer["invoiced_nano_usd"])}, ledger ${moneyCell(answer["booked_nano_usd"])}: `,
      `${textCell(answer["matched"])} agree to the nano-dollar, ${textCell(answer["differing"])} differ\n`,
      ...kinds,
      anonymous > 0 ? `${anonymous} lines without an id, ${moneyCell(answer["anonymous_nano_usd"])}: compared in total only\n` : "",
    ].join("");
  });
  return answer["ok"] === true ? EXIT.ok : EXIT.failed;
}

async function invoiceText(place: string, fetchIt: typeof fetch): Promise<string> {
  if (!/^https?:\/\//.test(place)) {
    try {
      return readFileSync(place, "utf8");
    } catch (error) {
      throw new CliError(EXIT.usage, `${place} cannot be read: ${(error as NodeJS.ErrnoException).code ?? "error"}`);
    }
  }
  try {
    const answer = await fetchIt(place);
    if (!answer.ok) throw new CliError(EXIT.failed, `${place} answered ${answer.status}`);
    return await answer.text();
  } catch (error) {
    if (error instanceof CliError) throw error;
    throw new CliError(EXIT.unreachable, `nothing answers at ${place}`);
  }
}
