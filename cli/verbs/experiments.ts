import { type Command, InvalidArgumentError } from "commander";
import type { VerbRunner } from "../context.ts";
import { type Fields, listOf, moneyCell, msCell, shareCell, textCell, timeCell, wordsCell } from "../format.ts";
import { table, type Column } from "../table.ts";

const ARM_COLUMNS: readonly Column[] = [
  { title: "ARM" },
  { title: "WEIGHT", right: true },
  { title: "BACKENDS" },
  { title: "REQUESTS", right: true },
  { title: "ERRORS", right: true },
  { title: "TTFT", right: true },
  { title: "TPOT", right: true },
  { title: "COST", right: true },
  { title: "COST/REQUEST", right: true },
];

/** An arm as the command line states it. */
interface ArmOption {
  readonly name: string;
  readonly weight: number;
  readonly backends: readonly string[];
}

/** Adds `experiments start|ramp|status|rollback|promote`. */
export function addExperimentVerbs(program: Command, runner: VerbRunner): void {
  const experiments = program.command("experiments").description("compare backends and model versions on live traffic");
  const start = experiments
    .command("start <name>")
    .description("send a share of a model's traffic to an arm; what is left goes to the arm `control`")
    .requiredOption("--model <model>", "model it is on")
    .requiredOption("--arm <[name:]backend=weight>", "an arm, as often as there are, e.g. new:gpu-b=10%", collectArms, [])
    .option("--unit <unit>", "what sticks to its arm: user, tenant, conversation or request (default: user)")
    .option("--layer <layer>", "experiments of one layer share no unit (default: the model's own)");
  runner.run(start, async ({ admin, print }, command) => {
    const { model, arm, unit, layer } = command.opts<{ model: string; arm: readonly ArmOption[]; unit?: string; layer?: string }>();
    const made = await admin().call("POST", "/api/experiments", {
      name: command.args[0] ?? "",
      model,
      arms: arm,
      ...(unit === undefined ? {} : { unit }),
      ...(layer === undefined ? {} : { layer }),
    });
    await print(made, () => shown(made));
  });

  const ramp = experiments.command("ramp <name> <arm=weight...>").description("change shares; `control` takes what the others leave");
  runner.run(ramp, async ({ admin, print }, command) => {
    const weights = Object.fromEntries(command.args.slice(1).map(parseWeight));
    const made = await admin().call("POST", `${pathOf(command)}/ramp`, { weights });
    await print(made, () => shown(made));
  });

  const status = experiments.command("status <name>").description("its arms side by side");
  runner.run(status, async ({ admin, print }, command) => {
    const found = await admin().call("GET", pathOf(command));
    await print(found, () => shown(found));
  });

  const rollback = experiments
    .command("rollback <name>")
    .description("give every unit back to the control arm, at once")
    .option("--reason <text>", "why, for the record");
  runner.run(rollback, async ({ admin, print }, command) => {
    const made = await admin().call("POST", `${pathOf(command)}/rollback`, command.opts<{ reason?: string }>());
    await print(made, () => shown(made));
  });

  const promote = experiments.command("promote <name> <arm>").description("give every unit to one arm");
  runner.run(promote, async ({ admin, print }, command) => {
    const made = await admin().call("POST", `${pathOf(command)}/promote`, { arm: command.args[1] ?? "" });
    await print(made, () => shown(made));
  });
}

function pathOf(command: Command): string {
  return `/api/experiments/${encodeURIComponent(command.args[0] ?? "")}`;
}

/** `20%` or `0.2` as a share. */
function parseShare(text: string): number {
  const match = /^(\d{1,3}(?:\.\d{1,4})?)(%?)$/.exec(text);
  const share = match === null ? Number.NaN : Number(match[1]) / (match[2] === "%" ? 100 : 1);
  if (!(share >= 0 && share <= 1)) throw new InvalidArgumentError("write a share such as 20% or 0.2.");
  return share;
}

function parseWeight(text: string): readonly [string, number] {
  const split = text.lastIndexOf("=");
  if (split < 1) throw new InvalidArgumentError("write ARM=WEIGHT, such as b=20%.");
  return [text.slice(0, split), parseShare(text.slice(split + 1))];
}

/** `[NAME:]BACKEND=WEIGHT`; the same NAME again adds a backend to the arm, and its weight must be the same. */
function collectArms(text: string, previous: readonly ArmOption[]): readonly ArmOption[] {
  const [target, weight] = parseWeight(text);
  const split = target.indexOf(":");
  const backend = target.slice(split + 1);
  const name = split < 0 ? backend : target.slice(0, split);
  if (name === "" || backend === "") throw new InvalidArgumentError("write [NAME:]BACKEND=WEIGHT, such as new:gpu-b=10%.");
  const known = previous.find((arm) => arm.name === name);
  if (known === undefined) return [...previous, { name, weight, backends: [backend] }];
  if (known.weight !== weight) throw new InvalidArgumentError(`arm ${name} has two weights.`);
  return previous.map((arm) => (arm === known ? { ...arm, backends: [...arm.backends, backend] } : arm));
}

function shown(experiment: Fields): string {
  const rows = listOf(experiment, "arms").map((arm) => [
    textCell(arm["name"]),
    shareCell(arm["weight"]),
    wordsCell(arm["backends"]),
    textCell(arm["requests"]),
    shareCell(arm["error_rate"]),
    msCell(arm["ttft_ms"]),
    msCell(arm["tpot_ms"]),
    moneyCell(arm["cost_nano_usd"]),
    moneyCell(arm["cost_per_request_nano_usd"]),
  ]);
  const last = listOf(experiment, "history").at(-1);
  const reason = last !== undefined && last["reason"] !== "" ? `: ${textCell(last["reason"])}` : "";
  const change = last === undefined ? "" : `, ${textCell(last["action"])} by ${textCell(last["by"])} at ${timeCell(last["at"])}${reason}`;
  const head = `${textCell(experiment["name"])} on ${textCell(experiment["model"])}: ${textCell(experiment["state"])}, revision ${textCell(experiment["revision"])}${change}`;
  return `${head}\n\n${table(ARM_COLUMNS, rows)}`;
}
