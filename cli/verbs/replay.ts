import { writeFileSync } from "node:fs";
import { type Command, InvalidArgumentError } from "commander";
import type { ReplayOptions, ReplayReport } from "../actions.ts";
import type { VerbRunner } from "../context.ts";
import { CliError, EXIT } from "../exit.ts";
import { parseList, parseMoment } from "../options.ts";
import { replayHtml, replayText } from "./replay-text.ts";

/** Read when no period is named, ms. */
const PERIOD = "1h";

interface ReplayGiven {
  readonly since: string;
  readonly until?: string;
  readonly tryConfig?: string;
  readonly weight?: ReplayOptions["weights"];
  readonly without?: readonly string[];
  readonly out?: string;
}

/** Adds `experiments replay`. */
export function addReplayVerb(experiments: Command, runner: VerbRunner): void {
  const replay = experiments
    .command("replay")
    .description("run recorded decisions of the data folder through another policy, offline: what would it have cost?")
    .option("--since <time>", "from then on: 1h ago, or an ISO time", PERIOD)
    .option("--until <time>", "before then")
    .option("--try-config <file>", "a configuration to try")
    .option("--weight <experiment:arm=share>", "a share to try, as often as there are", collectWeights)
    .option("--without <backends>", "backends to do without, separated by commas", parseList)
    .option("--out <file.html>", "draw it there");
  runner.run(replay, async ({ actions, io, options, print }, command) => {
    const given = command.opts<ReplayGiven>();
    const nowMs = Date.now();
    const report: ReplayReport = await actions.replay(
      {
        ...options,
        sinceMs: Date.parse(parseMoment(given.since, nowMs)),
        untilMs: given.until === undefined ? Number.POSITIVE_INFINITY : Date.parse(parseMoment(given.until, nowMs)),
        tryConfig: given.tryConfig,
        weights: given.weight ?? new Map(),
        without: given.without ?? [],
      },
      (records) => {
        if (io.errIsTty) io.err(`\r${records} decisions read`);
      },
    );
    if (io.errIsTty) io.err("\r\u001b[K");
    if (report.records === 0) throw new CliError(EXIT.failed, `no decisions of that period in ${options.dataDir}`);
    if (given.out !== undefined) writeFileSync(given.out, replayHtml(report));
    await print(report, () => `${replayText(report)}${given.out === undefined ? "" : `\ndrawn in ${given.out}\n`}`);
  });
}

/** `EXPERIMENT:ARM=SHARE` into shares by experiment and arm. */
function collectWeights(text: string, previous: ReplayOptions["weights"] = new Map()): ReplayOptions["weights"] {
  const match = /^([^:=]+):([^:=]+)=(\d{1,3}(?:\.\d{1,4})?)(%?)$/.exec(text);
  const share = match === null ? Number.NaN : Number(match[3]) / (match[4] === "%" ? 100 : 1);
  if (match === null || !(share >= 0 && share <= 1)) throw new InvalidArgumentError("write EXPERIMENT:ARM=SHARE, such as cheap:b=50%.");
  const arms = new Map(previous.get(match[1]!)).set(match[2]!, share);
  return new Map(previous).set(match[1]!, arms);
}
