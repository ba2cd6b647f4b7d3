import type { Command } from "commander";
import type { VerbRunner } from "../context.ts";
import { EXIT } from "../exit.ts";
import { listOf, textCell, timeCell, wordsCell } from "../format.ts";
import { table, type Column } from "../table.ts";
import { confirmationText } from "./experiment-text.ts";

const COLUMNS: readonly Column[] = [
  { title: "MODEL" },
  { title: "REVISION", right: true },
  { title: "CLASS" },
  { title: "CANDIDATES" },
  { title: "EXPERIMENTS" },
  { title: "CHANGED" },
  { title: "BY" },
];

/** How long a rollback waits until every replica has it, ms. */
const CONFIRM_MS = 6_000;

/** Adds `models ls|rollback`. */
export function addModelVerbs(program: Command, runner: VerbRunner): void {
  const models = program.command("models").description("what clients ask for, and its revisions");
  runner.run(models.command("ls").description("models with their candidates and last revision"), async ({ admin, print }) => {
    const found = await admin().call("GET", "/api/models");
    await print(found, () => table(COLUMNS, listOf(found, "models").map(rowOf)));
  });
  const rollback = models
    .command("rollback <name>")
    .description("take back a model's last revision: the candidates before, or an experiment's promotion")
    .option("--reason <text>", "why, for the record");
  runner.run(rollback, async ({ admin, print }, command) => {
    const body = { ...command.opts<{ reason?: string }>(), wait_ms: CONFIRM_MS };
    const made = await admin().call("POST", `/api/models/${encodeURIComponent(command.args[0] ?? "")}/rollback`, body);
    await print(made, () => `${table(COLUMNS, [rowOf(made)])}${confirmationText(made)}`);
    return made["confirmed"] === false ? EXIT.failed : EXIT.ok;
  });
}

function rowOf(model: Readonly<Record<string, unknown>>): readonly string[] {
  const last = listOf(model, "history").at(-1);
  return [
    textCell(model["name"]),
    textCell(model["revision"]),
    textCell(model["class"]),
    wordsCell(model["candidates"]),
    wordsCell(model["experiments"]),
    timeCell(last?.["at"]),
    textCell(last?.["by"]),
  ];
}
