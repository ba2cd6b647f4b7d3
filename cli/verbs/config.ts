import type { Command } from "commander";
import {
  configSchema,
  diffConfigs,
  diffJson,
  formatProblem,
  formatProblems,
  loadConfigFile,
  redact,
  type Config,
  type ConfigChange,
  type Json,
} from "#libs/config/index.ts";
import { checkRule } from "#libs/rules/index.ts";
import type { VerbContext, VerbRunner } from "../context.ts";
import { CliError, EXIT } from "../exit.ts";
import { textCell } from "../format.ts";
import { table } from "../table.ts";

/** The file `config` verbs look at when none is named. */
const DEFAULT_FILE = "signalbox.yaml";

/** Adds `config validate|schema|diff`. */
export function addConfigVerbs(program: Command, runner: VerbRunner): void {
  const config = program.command("config").description("look at configuration files");
  const validate = config.command("validate [file]").description("report everything that is wrong with a file; secrets stay unread");
  runner.run(validate, (context, command) => validateFile(context, command.args[0]));
  runner.run(config.command("schema").description("print the file's JSON Schema, for editors"), async ({ io }) => {
    await io.out(`${JSON.stringify(configSchema(), null, 2)}\n`);
  });
  const diff = config
    .command("diff <file> [newer]")
    .description("what changes from one file to another, or from the running configuration to the file");
  runner.run(diff, (context, command) => diffFiles(context, command.args[0] ?? DEFAULT_FILE, command.args[1]));
}

async function validateFile({ options, io, print }: VerbContext, named: string | undefined): Promise<number> {
  const file = named ?? options.configFile ?? DEFAULT_FILE;
  const loaded = loadConfigFile(file, { checkRule });
  const { config, problems } = loaded;
  if (config) {
    const { warnings } = loaded;
    if (options.output !== "json") for (const warning of warnings) io.err(`warning: ${formatProblem(warning)}\n`);
    const facts = {
      ok: true,
      file,
      warnings,
      config_version: config.configVersion,
      backends: config.backends.size,
      models: config.models.size,
    };
    const counts = `${config.backends.size} backends, ${config.models.size} models, ${config.tenants.size} tenants`;
    await print(facts, () => `${file} is valid: ${counts} (version ${config.configVersion})\n`);
    return EXIT.ok;
  }
  if (options.output === "json") await print({ ok: false, file, problems }, () => "");
  else io.err(`${formatProblems(problems)}\n${problems.length} ${problems.length === 1 ? "problem" : "problems"}\n`);
  return EXIT.usage;
}

function loadOrRefuse(file: string): Config {
  const { config, problems } = loadConfigFile(file, { checkRule });
  if (config) return config;
  throw new CliError(EXIT.usage, `${file} is not valid:\n${formatProblems(problems)}`);
}

async function diffFiles({ admin, print }: VerbContext, file: string, newer: string | undefined): Promise<void> {
  const named = loadOrRefuse(file);
  let changes: readonly ConfigChange[];
  if (newer === undefined) {
    const running = (await admin().call("GET", "/config")) as { readonly [key: string]: Json };
    // The answer may wrap the configuration beside its version.
    changes = diffJson(running["config"] ?? running, redact(named));
  } else changes = diffConfigs(named, loadOrRefuse(newer));
  await print({ changes }, () => diffText(changes));
}

function diffText(changes: readonly ConfigChange[]): string {
  if (changes.length === 0) return "no difference\n";
  const rows = changes.map((change) => [change.path, textCell(change.before), textCell(change.after)]);
  return table([{ title: "SETTING" }, { title: "BEFORE" }, { title: "AFTER" }], rows);
}
