import type { Command } from "commander";
import type { AdminClient } from "../admin-client.ts";
import type { VerbContext, VerbRunner } from "../context.ts";
import { CliError, EXIT } from "../exit.ts";
import { fieldsOf, moneyCell, msCell, textCell, timeCell, type Fields } from "../format.ts";
import { linesOf } from "../lines.ts";
import { addPeriodOptions, periodQuery, type PeriodGiven } from "../period.ts";
import { createProgress } from "../progress.ts";
import { tableLine, widthsOf, type Column } from "../table.ts";

const COLUMNS: readonly Column[] = [
  { title: "STARTED" },
  { title: "REQUEST" },
  { title: "TRY", right: true },
  { title: "TENANT" },
  { title: "MODEL" },
  { title: "BACKEND" },
  { title: "INPUT", right: true },
  { title: "OUTPUT", right: true },
  { title: "COST", right: true },
  { title: "OUTCOME" },
  { title: "TTFT", right: true },
  { title: "TOOK", right: true },
];

/** Rows a table is aligned over before it is printed: enough for the widths, few enough to show something soon. */
const PAGE_ROWS = 200;

/** Adds `ledger export`. */
export function addLedgerVerbs(program: Command, runner: VerbRunner): void {
  const ledger = program.command("ledger").description("what every attempt cost");
  const exporting = addPeriodOptions(
    ledger.command("export").description("every entry; with -o json one object per line").option("--tenant <tenant>", "only this tenant's"),
  );
  runner.run(exporting, async (context, command) => {
    const given = command.opts<PeriodGiven & { tenant?: string }>();
    const query = periodQuery(given);
    if (given.tenant !== undefined) query.set("tenant", given.tenant);
    await exportEntries(context, query);
  });
}

async function exportEntries({ admin, io, options }: VerbContext, query: URLSearchParams): Promise<void> {
  const client = admin();
  const total = io.errIsTty && !io.outIsTty ? await entryCount(client) : 0;
  const body = await client.stream(`/api/ledger/entries?${query.toString()}`);
  const progress = createProgress(io, "entries", total);
  const print = options.output === "json" ? jsonPrinter(io.out) : tablePrinter(io.out);
  try {
    for await (const line of linesOf(body)) {
      if (line === "") continue;
      await print.line(line);
      progress.add(1);
    }
    await print.end();
  } catch (error) {
    // A server that fails half way breaks the connection, so that half an export never looks whole.
    throw error instanceof CliError
      ? error
      : new CliError(EXIT.failed, "the export broke off before its end: what was printed is not complete");
  } finally {
    progress.end();
  }
}

async function entryCount(client: AdminClient): Promise<number> {
  const summary = await client.call("GET", "/api/ledger/summary");
  return Number(summary["entries"]) || 0;
}

interface LinePrinter {
  line(text: string): Promise<void>;
  end(): Promise<void>;
}

/** Lines are collected to blocks: a write per entry would cost more than the export. */
const BLOCK_CHARS = 64 * 1024;

function jsonPrinter(out: (text: string) => Promise<void>): LinePrinter {
  let block = "";
  const flush = async (): Promise<void> => {
    const full = block;
    block = "";
    if (full !== "") await out(full);
  };
  return {
    line: async (text) => {
      block += `${text}\n`;
      if (block.length >= BLOCK_CHARS) await flush();
    },
    end: flush,
  };
}

function tablePrinter(out: (text: string) => Promise<void>): LinePrinter {
  let rows: (readonly string[])[] = [];
  let printedTitles = false;
  let widths: readonly number[] = COLUMNS.map(() => 0);
  const flush = async (): Promise<void> => {
    const page = printedTitles ? rows : [COLUMNS.map((column) => column.title), ...rows];
    const needed = widthsOf(COLUMNS, rows);
    widths = widths.map((width, index) => Math.max(width, needed[index] ?? 0));
    rows = [];
    printedTitles = true;
    await out(page.map((cells) => `${tableLine(COLUMNS, widths, cells)}\n`).join(""));
  };
  return {
    line: async (text) => {
      rows.push(entryRow(parse(text)));
      if (rows.length >= PAGE_ROWS) await flush();
    },
    end: async () => {
      if (!printedTitles || rows.length > 0) await flush();
    },
  };
}

function parse(line: string): Fields {
  try {
    return fieldsOf(JSON.parse(line));
  } catch {
    throw new CliError(EXIT.failed, "the export holds a line that is not JSON: is this the admin port?");
  }
}

function entryRow(entry: Fields): readonly string[] {
  return [
    timeCell(entry["started_at"]),
    textCell(entry["request_id"]),
    textCell(entry["attempt"]),
    textCell(entry["tenant"]),
    textCell(entry["model"]),
    textCell(entry["backend"]),
    textCell(entry["input_tokens"]),
    textCell(entry["output_tokens"]),
    `${moneyCell(entry["cost_nano_usd"])}${entry["estimated"] === true ? "~" : ""}`,
    textCell(entry["outcome"]),
    msCell(entry["ttft_ms"]),
    msCell(entry["duration_ms"]),
  ];
}
