import { type Command, InvalidArgumentError, Option } from "commander";
import type { VerbContext, VerbRunner } from "../context.ts";
import { EXIT } from "../exit.ts";
import type { Fields } from "../format.ts";
import { parseDuration, parseWhole } from "../options.ts";
import { addReplayVerb } from "./replay.ts";
import { confirmationText, experimentText } from "./experiment-text.ts";

/** How long a change waits until every replica has it, ms: longer than replicas need without NATS. */
const CONFIRM_MS = 6_000;

/** An arm as the command line states it. */
interface ArmOption {
  readonly name: string;
  readonly weight: number;
  readonly backends: readonly string[];
}

/** A guard as the command line states it. */
type GuardOptions = Readonly<Record<string, number>>;

interface StartOptions {
  readonly model: string;
  readonly arm: readonly ArmOption[];
  readonly unit?: string;
  readonly layer?: string;
  readonly steps?: readonly number[];
  readonly stepTime?: number;
  readonly stepRequests?: number;
  readonly guard?: GuardOptions;
  readonly onBreach?: string;
}

/** Prints an experiment that was changed with who has it; 1 when somebody has not. */
async function printChange({ print }: VerbContext, made: Fields): Promise<number> {
  await print(made, () => `${experimentText(made)}${confirmationText(made)}`);
  return made["confirmed"] === false ? EXIT.failed : EXIT.ok;
}

/** Adds `experiments start|ramp|status|rollback|promote|replay`. */
export function addExperimentVerbs(program: Command, runner: VerbRunner): void {
  const experiments = program.command("experiments").description("compare backends and model versions on live traffic");
  const start = experiments
    .command("start <name>")
    .description("send a share of a model's traffic to an arm; what is left goes to the arm `control`")
    .requiredOption("--model <model>", "model it is on")
    .requiredOption("--arm <[name:]backend=weight>", "an arm, as often as there are, e.g. new:gpu-b=10%", collectArms, [])
    .option("--unit <unit>", "what sticks to its arm: user, tenant, conversation or request (default: user)")
    .option("--layer <layer>", "experiments of one layer share no unit (default: the model's own)")
    .option("--steps <shares>", "roll out by itself, e.g. 1%,5%,20%,50%,100%: each step after its analysis", parseShares)
    .option("--step-time <duration>", "how long a step lasts at least (default: 10m)", parseDuration)
    .option("--step-requests <count>", "requests each arm must have seen in a step (default: 200)", parseWhole)
    .option("--guard <name=margin>", "error_rate=+0.5pt, ttft=+10%, cost=+10%, quality=-2pt; as often as there are", collectGuards)
    .addOption(new Option("--on-breach <action>", "what a guard does").choices(["rollback", "pause", "alert"]));
  runner.run(start, async (context, command) => {
    const given = command.opts<StartOptions>();
    const { model, unit, layer, steps, stepTime, stepRequests, guard, onBreach } = given;
    const arms = steps === undefined ? given.arm : given.arm.map((arm) => ({ ...arm, weight: steps[0] ?? 0 }));
    const made = await context.admin().call("POST", "/api/experiments", {
      name: command.args[0] ?? "",
      model,
      arms,
      ...(unit === undefined ? {} : { unit }),
      ...(layer === undefined ? {} : { layer }),
      ...(steps === undefined ? {} : { steps }),
      ...(stepTime === undefined ? {} : { step_ms: stepTime }),
      ...(stepRequests === undefined ? {} : { step_requests: stepRequests }),
      ...(guard === undefined && onBreach === undefined ? {} : { guards: { ...guard, action: onBreach ?? "rollback" } }),
    });
    await context.print(made, () => experimentText(made));
  });

  const ramp = experiments.command("ramp <name> <arm=weight...>").description("change shares; `control` takes what the others leave");
  runner.run(ramp, async (context, command) => {
    const weights = Object.fromEntries(command.args.slice(1).map(parseWeight));
    const made = await context.admin().call("POST", `${pathOf(command)}/ramp`, { weights, wait_ms: CONFIRM_MS });
    return printChange(context, made);
  });

  const status = experiments.command("status <name>").description("its arms side by side");
  runner.run(status, async ({ admin, print }, command) => {
    const found = await admin().call("GET", pathOf(command));
    await print(found, () => experimentText(found));
  });

  const rollback = experiments
    .command("rollback <name>")
    .description("give every unit back to the control arm, at once; says which replicas have it")
    .option("--reason <text>", "why, for the record")
    .addOption(
      new Option("--wait <time>", "until every replica has it, at most")
        .argParser(parseDuration)
        .default(CONFIRM_MS, `${CONFIRM_MS / 1000}s`),
    );
  runner.run(rollback, async (context, command) => {
    const { wait, ...reason } = command.opts<{ reason?: string; wait: number }>();
    const body = { ...reason, wait_ms: wait };
    return printChange(context, await context.admin().call("POST", `${pathOf(command)}/rollback`, body));
  });

  addReplayVerb(experiments, runner);

  const promote = experiments.command("promote <name> <arm>").description("give every unit to one arm");
  runner.run(promote, async (context, command) => {
    const made = await context.admin().call("POST", `${pathOf(command)}/promote`, { arm: command.args[1] ?? "", wait_ms: CONFIRM_MS });
    return printChange(context, made);
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

function parseShares(text: string): readonly number[] {
  return text.split(",").map((share) => parseShare(share.trim()));
}

const GUARD_NAMES: ReadonlySet<string> = new Set(["error_rate", "ttft", "cost", "quality"]);

/** `error_rate=+0.5pt` or `ttft=+10%` as a number: points and per cent are hundredths. */
function collectGuards(text: string, previous: GuardOptions = {}): GuardOptions {
  const match = /^([a-z_]+)=([+-]?\d{1,4}(?:\.\d{1,4})?)(pt|%)?$/.exec(text);
  if (match === null || !GUARD_NAMES.has(match[1]!))
    throw new InvalidArgumentError("write NAME=MARGIN, such as error_rate=+0.5pt or ttft=+10%.");
  return { ...previous, [match[1]!]: Number(match[2]) / (match[3] === undefined ? 1 : 100) };
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
