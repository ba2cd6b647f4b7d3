import { Argument, Option, type Command } from "commander";
import { CLASS_NAMES } from "#libs/config/index.ts";
import type { AdminClient } from "../admin-client.ts";
import type { VerbRunner } from "../context.ts";
import { CliError, EXIT } from "../exit.ts";
import { fieldsOf, listOf, moneyCell, msCell, textCell, type Fields } from "../format.ts";
import { paint, type CliIo } from "../io.ts";
import { collectPairs, parseDuration, parseList, parseWhole } from "../options.ts";
import { table, type Column } from "../table.ts";

interface ExplainGiven {
  readonly last?: boolean;
  readonly model?: string;
  readonly inputTokens?: number;
  readonly outputTokens?: number;
  readonly class?: string;
  readonly needs?: readonly string[];
  readonly tag: Readonly<Record<string, string>>;
  readonly tenant?: string;
  readonly stream?: boolean;
  readonly ttft?: number;
}

const COLUMNS: readonly Column[] = [
  { title: "" },
  { title: "BACKEND" },
  { title: "TTFT", right: true },
  { title: "TPOT", right: true },
  { title: "COST", right: true },
  { title: "MARGINAL", right: true },
  { title: "QUEUE", right: true },
  { title: "IN FLIGHT", right: true },
  { title: "SCORE", right: true },
  { title: "STANDING" },
  { title: "RULED OUT" },
];

/** Adds `explain`: a dry run of a decision, or the record of one. */
export function addExplainVerb(program: Command, runner: VerbRunner): void {
  const explain = program
    .command("explain")
    .description("why a backend was, or would be, chosen")
    .addArgument(new Argument("[id]", "request id, decision id or response id of a decision that was made"))
    .option("--last", "the last decision")
    .option("-m, --model <model>", "decide now, without sending anything")
    .option("--input-tokens <count>", "length of the prompt", parseWhole)
    .option("--output-tokens <count>", "limit of the answer", parseWhole)
    .addOption(new Option("--class <class>", "request class").choices(CLASS_NAMES))
    .option("--needs <names>", "capabilities, separated by commas", parseList)
    .option("--tag <name=value>", "a tag; may be repeated", collectPairs, {})
    .option("--tenant <tenant>", "as this tenant")
    .option("--stream", "as a stream")
    .option("--ttft <duration>", "as a request with this target for its first token", parseDuration);
  runner.run(explain, async ({ admin, io, print }, command) => {
    const decision = await decisionOf(admin, command.opts<ExplainGiven>(), command.args[0]);
    await print(decision, () => decisionText(decision, io));
  });
}

function decisionOf(admin: () => AdminClient, given: ExplainGiven, id: string | undefined): Promise<Fields> {
  const ways = [given.last === true, given.model !== undefined, id !== undefined].filter(Boolean).length;
  if (ways !== 1) throw new CliError(EXIT.usage, "name one decision: `explain -m MODEL`, `explain ID` or `explain --last`");
  if (given.last) return admin().call("GET", "/api/explain/last");
  if (id !== undefined) return admin().call("GET", `/api/explain/${encodeURIComponent(id)}`);
  return admin().call("POST", "/api/explain", {
    model: given.model,
    input_tokens: given.inputTokens,
    max_output_tokens: given.outputTokens,
    class: given.class,
    needs: given.needs,
    tags: given.tag,
    tenant: given.tenant,
    stream: given.stream,
    ttft_ms: given.ttft,
  });
}

function decisionText(decision: Fields, io: CliIo): string {
  const chosen = decision["chosen"];
  const denied = fieldsOf(decision["denied"]);
  const heading = [
    `decision ${textCell(decision["decision_id"])}`,
    `request ${textCell(decision["request_id"])}`,
    `model ${textCell(decision["model"])}`,
    `class ${textCell(decision["class"])}`,
    `config ${textCell(decision["config_version"])}`,
  ].join("  ");
  const denial = `denied: ${textCell(denied["reason"])}: ${textCell(denied["detail"])}`;
  const result = typeof chosen === "string" && chosen !== "" ? `chosen: ${paint(io, "bold", textCell(chosen))}` : denial;
  const rows = listOf(decision, "candidates").map((candidate) => candidateRow(candidate, chosen));
  const lines = [heading, ...circumstancesOf(decision), result];
  return `${lines.join("\n")}\n${rows.length === 0 ? "" : `\n${table(COLUMNS, rows)}`}`;
}

/** What it was held against, and how long it waited: for room, or for another request to compute the beginning of its prompt. */
function circumstancesOf(decision: Fields): readonly string[] {
  const lines: string[] = [];
  const first = msCell(decision["ttft_target_ms"]);
  const further = msCell(decision["tpot_target_ms"]);
  if (first !== "-" || further !== "-") lines.push(`targets: first token ${first}, each further ${further}`);
  const queueMs = decision["queue_ms"];
  if (typeof queueMs === "number" && queueMs > 0) {
    lines.push(`waited: ${msCell(queueMs)}${decision["followed_ms"] === undefined ? "" : ", for the beginning of its prompt"}`);
  }
  return lines;
}

function candidateRow(candidate: Fields, chosen: unknown): readonly string[] {
  const excluded = fieldsOf(candidate["excluded"]);
  const isOut = excluded["requirement"] !== undefined;
  const score = candidate["score"];
  return [
    candidate["backend"] === chosen ? "*" : " ",
    textCell(candidate["backend"]),
    isOut ? "-" : msCell(candidate["predicted_ttft_ms"]),
    isOut ? "-" : msCell(candidate["predicted_tpot_ms"]),
    isOut && candidate["cost_nano_usd"] === "0" ? "-" : moneyCell(candidate["cost_nano_usd"]),
    isOut ? "-" : moneyCell(candidate["marginal_nano_usd"]),
    textCell(candidate["queue"]),
    textCell(candidate["in_flight"]),
    isOut || typeof score !== "number" ? "-" : score.toFixed(1),
    isOut ? "-" : textCell(candidate["standing"]),
    isOut ? `${textCell(excluded["requirement"])}: ${textCell(excluded["detail"])}` : "",
  ];
}
