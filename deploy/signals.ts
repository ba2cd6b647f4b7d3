import type { RunningProcess } from "./process.ts";
import type { ReloadableConfig } from "./reload.ts";

/** Exit code after a second signal: whoever asks twice does not want to wait. */
const EXIT_FORCED = 130;

/** Runs until SIGTERM or SIGINT, drains, and resolves with 0. SIGHUP reloads. A second SIGTERM or SIGINT ends at once. */
export function runUntilSignalled(running: RunningProcess, config: ReloadableConfig): Promise<number> {
  const { logger } = running.context;
  const reload = async (): Promise<void> => {
    const result = await config.reload();
    if ("configVersion" in result) logger.info(result, "configuration reloaded");
    else logger.error({ diagnostics: result.diagnostics }, "configuration refused, the old one stays");
  };
  return new Promise((resolve, reject) => {
    let ending = false;
    const end = (signal: NodeJS.Signals): void => {
      if (ending) process.exit(EXIT_FORCED);
      ending = true;
      logger.info({ signal }, "draining");
      running.shutdown().then(() => resolve(0), reject);
    };
    // Timers do not keep the process alive; this one says that it runs until told otherwise.
    const alive = setInterval(() => {}, 2 ** 30);
    process.on("SIGTERM", end);
    process.on("SIGINT", end);
    process.on("SIGHUP", () => {
      reload().catch((error: unknown) => logger.error({ error }, "reload failed"));
    });
    process.once("exit", () => clearInterval(alive));
  });
}
