import { Command, CommanderError, InvalidArgumentError } from "commander";
import type { CliActions } from "./actions.ts";
import { createVerbRunner } from "./context.ts";
import { CliError, EXIT } from "./exit.ts";
import { processIo, type CliIo } from "./io.ts";
import { addCommonOptions } from "./options.ts";
import { addBackendVerbs } from "./verbs/backends.ts";
import { addBudgetVerbs } from "./verbs/budgets.ts";
import { addChatVerb } from "./verbs/chat.ts";
import { addCheckVerb } from "./verbs/check.ts";
import { addConfigVerbs } from "./verbs/config.ts";
import { addCostVerb } from "./verbs/costs.ts";
import { addExperimentVerbs } from "./verbs/experiments.ts";
import { addExplainVerb } from "./verbs/explain.ts";
import { addKeyVerbs } from "./verbs/keys.ts";
import { addLaterVerbs } from "./verbs/later.ts";
import { addLedgerCheckVerbs } from "./verbs/ledger-check.ts";
import { addLedgerVerbs } from "./verbs/ledger.ts";
import { addModelVerbs } from "./verbs/models.ts";
import { addRunVerbs } from "./verbs/run.ts";
import { addSimVerbs } from "./verbs/sim.ts";

export type {
  BenchOptions,
  CheckOptions,
  CheckResult,
  CliActions,
  CommonOptions,
  DevOptions,
  PortOptions,
  ReplayOptions,
  ReplayReport,
  ReplaySide,
  ServeOptions,
  SimServeOptions,
} from "./actions.ts";
export { CliError, EXIT, type ExitCode } from "./exit.ts";
export type { CliIo } from "./io.ts";

/**
 * Runs one command line (without the program's own name) and resolves with its exit code: 0 ok, 1 failed, 2 usage or
 * configuration, 3 unreachable. What goes wrong in a verb is one line on stderr; other errors, which are bugs, reject.
 */
export async function runCli(argv: readonly string[], actions: CliActions, io: CliIo = processIo()): Promise<number> {
  const runner = createVerbRunner(io, actions);
  const program = new Command("signalbox")
    .description("One OpenAI-compatible API in front of GPU servers and cloud providers.")
    .configureHelp({ showGlobalOptions: true })
    .exitOverride()
    .configureOutput({ writeOut: (text) => void io.out(text), writeErr: (text) => io.err(text) });
  addCommonOptions(program);
  for (const add of [
    addRunVerbs,
    addCheckVerb,
    addConfigVerbs,
    addExplainVerb,
    addChatVerb,
    addBackendVerbs,
    addKeyVerbs,
    addCostVerb,
    addLedgerVerbs,
    addLedgerCheckVerbs,
    addBudgetVerbs,
    addExperimentVerbs,
    addModelVerbs,
    addSimVerbs,
    addLaterVerbs,
  ]) {
    add(program, runner);
  }
  try {
    await program.parseAsync([...argv], { from: "user" });
    return runner.exitCode;
  } catch (error) {
    return exitCodeOf(error, io);
  }
}

/** Reports an error where commander has not, and gives its exit code. */
function exitCodeOf(error: unknown, io: CliIo): number {
  if (error instanceof CliError) {
    io.err(`signalbox: ${error.message}\n`);
    return error.exitCode;
  }
  if (error instanceof InvalidArgumentError) {
    io.err(`signalbox: ${error.message}\n`);
    return EXIT.usage;
  }
  // Help and version end in an exit too; a verb group without a verb prints its help as an error.
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  throw error;
}
