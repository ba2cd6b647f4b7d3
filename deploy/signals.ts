import type { RunningProcess } from "./process.ts";
import type { ReloadableConfig } from "./reload.ts";

/** Exit code after a second signal: whoever asks twice does not want to wait. */
const EXIT_FORCED = 130;

/** Runs until SIGTERM or SIGINT, drains, and resolves with 0. SIGHUP reloads. A second SIGTERM or SIGINT ends at once. */
export async function runUntilSignalled(running: RunningProcess, config: ReloadableConfig): Promise<number> {
  const { logger } = running.context;
  const reload = async (): Promise<void> => {
    const result = await config.reload();
    if ("configVersion" in result) logger.info(result, "configuration reloaded");
    else logger.error({ diagnostics: result.diagnostics }, "configuration refused, the old one stays");
  };
  process.on("SIGHUP", () => {
    reload().catch((error: unknown) => logger.error({ error }, "reload failed"));
  });
  const signal = await untilSignalled();
  logger.info({ signal }, "draining");
  await running.shutdown();
  return 0;
}

/** Resolves at the first SIGTERM or SIGINT; the second ends the process at once. */
export function untilSignalled(): Promise<NodeJS.Signals> {
  // Our timers do not keep the process alive; this one says that it runs until told otherwise.
  const alive = setInterval(() => {}, 2 ** 30);
  return new Promise((resolve) => {
    let asked = false;
    const end = (signal: NodeJS.Signals): void => {
      if (asked) process.exit(EXIT_FORCED);
      asked = true;
      clearInterval(alive);
      resolve(signal);
    };
    process.on("SIGTERM", end);
    process.on("SIGINT", end);
  });
}
