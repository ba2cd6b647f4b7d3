import type { Command } from "commander";
import type { VerbRunner } from "../context.ts";
import { CliError, EXIT } from "../exit.ts";

/** Words that are taken but do nothing yet. A group's verbs follow it. */
const LATER: readonly (readonly [string, ...string[]])[] = [["top"], ["tap"]];

/** Adds the verbs that are not built: they say so in one line and end with the usage code, and help does not list them. */
export function addLaterVerbs(program: Command, runner: VerbRunner): void {
  for (const [word, ...verbs] of LATER) {
    const group = program.commands.find((command) => command.name() === word);
    const parent = group ?? refuse(program.command(word, { hidden: true }), word, runner);
    for (const verb of verbs) refuse(parent.command(verb, { hidden: true }), `${word} ${verb}`, runner);
  }
}

function refuse(command: Command, words: string, runner: VerbRunner): Command {
  command.allowUnknownOption().allowExcessArguments();
  runner.run(command, () => {
    throw new CliError(EXIT.usage, `\`signalbox ${words}\` is not built yet`);
  });
  return command;
}
