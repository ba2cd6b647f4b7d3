import type { Command } from "commander";
import type { CliActions } from "./actions.ts";
import { createAdminClient, type AdminClient } from "./admin-client.ts";
import { EXIT, type ExitCode } from "./exit.ts";
import type { CliIo } from "./io.ts";
import { commonOptions, type ClientOptions } from "./options.ts";

/** What a verb works with. */
export interface VerbContext {
  readonly io: CliIo;
  readonly actions: CliActions;
  readonly options: ClientOptions;
  /** The admin API of the server the options name; reading its token is put off until it is asked for. */
  readonly admin: () => AdminClient;
  /** Prints the value as one JSON object with -o json, else the text. */
  readonly print: (value: unknown, text: () => string) => Promise<void>;
}

/** What a verb does; it resolves with the exit code, or nothing for 0. */
export type VerbBody = (context: VerbContext, command: Command) => Promise<number | void>;

/** Puts bodies on commands and keeps the exit code of the one that ran. */
export interface VerbRunner {
  readonly io: CliIo;
  /** Gives the command its body. */
  run(command: Command, body: VerbBody): void;
  /** Exit code of the verb that ran. */
  readonly exitCode: number;
}

/** A runner over the given outside. */
export function createVerbRunner(io: CliIo, actions: CliActions): VerbRunner {
  let exitCode: number = EXIT.ok satisfies ExitCode;
  return {
    io,
    get exitCode() {
      return exitCode;
    },
    run(command, body) {
      command.action(async () => {
        const options = commonOptions(command, io);
        const print = (value: unknown, text: () => string): Promise<void> =>
          io.out(options.output === "json" ? `${JSON.stringify(value)}\n` : text());
        exitCode = (await body({ io, actions, options, admin: () => createAdminClient(io, options), print }, command)) ?? EXIT.ok;
      });
    },
  };
}
