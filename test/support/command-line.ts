import { runCli, type CliActions, type CliIo } from "#cli/index.ts";
import type { Gateway } from "./gateway.ts";

/** The verbs used on a gateway that runs start nothing. */
const NO_ACTIONS = {} as CliActions;

/** Runs a verb of the command line against a gateway, as one without a terminal. `out` holds both streams. */
export async function commandLine(gateway: Gateway, argv: readonly string[]): Promise<{ code: number; out: string }> {
  let out = "";
  const io: CliIo = {
    env: {},
    out: (text) => {
      out += text;
      return Promise.resolve();
    },
    err: (text) => void (out += text),
    outIsTty: false,
    errIsTty: false,
    fetch: globalThis.fetch,
  };
  const dataDir = gateway.mesh ? gateway.mesh.dataDir("console") : gateway.dir;
  return { code: await runCli([...argv, "--admin", gateway.admin, "--data-dir", dataDir], NO_ACTIONS, io), out };
}
