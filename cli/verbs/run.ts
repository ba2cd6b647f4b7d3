import { InvalidArgumentError, type Command } from "commander";
import { ROLE_NAMES } from "#libs/config/index.ts";
import type { PortOptions } from "../actions.ts";
import type { VerbRunner } from "../context.ts";
import { addPortOptions, parseDuration, parsePositive, parseWhole, portOptions } from "../options.ts";
import { runningServer } from "../running-server.ts";

/** Adds `dev`, `serve` and `bench`: what runs until it is told to stop, or for a while. */
export function addRunVerbs(program: Command, runner: VerbRunner): void {
  const dev = addPortOptions(
    program.command("dev").description("everything in one process with simulated providers; no key, no file, no server"),
  );
  runner.run(dev, ({ actions, options }, command) => actions.dev({ ...options, ...portOptions(command.opts<Partial<PortOptions>>()) }));

  const serve = addPortOptions(program.command("serve").description("production start, of everything or of one role of a mesh")).option(
    "--role <role>",
    `run only this role (${ROLE_NAMES.join(", ")}); may be repeated`,
    collectRole,
    [],
  );
  runner.run(serve, ({ actions, options }, command) => {
    const given = command.opts<Partial<PortOptions> & { role: readonly string[] }>();
    return actions.serve({ ...options, ...portOptions(given), roles: given.role });
  });
  addBench(program, runner);
}

function collectRole(text: string, previous: readonly string[]): readonly string[] {
  const [base = "", dialect] = text.split(":");
  if (!(ROLE_NAMES as readonly string[]).includes(base)) throw new InvalidArgumentError(`use one of ${ROLE_NAMES.join(", ")}.`);
  if (dialect !== undefined && base !== "provider-adapters") throw new InvalidArgumentError("only provider-adapters takes :NAME.");
  return [...previous, text];
}

interface BenchGiven {
  readonly api?: string;
  readonly key?: string;
  readonly model: string;
  readonly rps: number;
  readonly for: number;
  readonly warmup: number;
  readonly stream: boolean;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly seed: number;
}

function addBench(program: Command, runner: VerbRunner): void {
  const bench = program
    .command("bench")
    .description("load the API at a steady rate and report TTFT, TPOT and end-to-end percentiles")
    .option("--api <url>", "address of the API (default: the configuration's)")
    .option("--key <key>", "virtual key (environment: SIGNALBOX_API_KEY)")
    .option("-m, --model <model>", "model to ask", "chat")
    .option("--rps <number>", "requests begun per second", parsePositive, 10)
    .option("--for <duration>", "how long", parseDuration, 10_000)
    .option("--warmup <duration>", "leading part that is not counted", parseDuration, 0)
    .option("--no-stream", "ask for whole answers")
    .option("--input-tokens <count>", "length of each prompt", parseWhole, 64)
    .option("--output-tokens <count>", "length of each answer", parseWhole, 64)
    .option("--seed <number>", "seed of the prompts", parseWhole, 1);
  runner.run(bench, async (context, command) => {
    const { actions, options, io } = context;
    const given = command.opts<BenchGiven>();
    return actions.bench({
      ...options,
      apiUrl: given.api ?? (await runningServer(context)).apiUrl,
      key: given.key ?? (io.env["SIGNALBOX_API_KEY"] || undefined),
      model: given.model,
      rps: given.rps,
      durationMs: given.for,
      warmupMs: given.warmup,
      stream: given.stream,
      inputTokens: given.inputTokens,
      outputTokens: given.outputTokens,
      seed: given.seed,
      progress: io.errIsTty,
    });
  });
}
