import { runCli } from "#cli/index.ts";
import { actions } from "./actions.ts";

process.exitCode = await runCli(process.argv.slice(2), actions);
