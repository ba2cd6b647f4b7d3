import cliProgress from "cli-progress";
import type { CliIo } from "./io.ts";

/** How far a long piece of work has come. */
export interface Progress {
  /** Adds to what is done. */
  add(count: number): void;
  end(): void;
}

const SILENT: Progress = { add: () => {}, end: () => {} };

/** A bar on stderr, when that is a terminal and stdout is not (a table on the same screen would be torn); else nothing. */
export function createProgress(io: CliIo, unit: string, total: number): Progress {
  if (!io.errIsTty || io.outIsTty || total <= 0) return SILENT;
  const bar = new cliProgress.SingleBar({
    format: `{bar} {percentage}% {value}/{total} ${unit} {eta_formatted} left`,
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
    barCompleteChar: "█",
    barIncompleteChar: "░",
  });
  bar.start(total, 0);
  return { add: (count) => bar.increment(count), end: () => bar.stop() };
}
