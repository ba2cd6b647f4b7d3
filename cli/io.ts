import { styleText } from "node:util";

/** Everything the command line touches of the outside, so that a test can stand in for it. */
export interface CliIo {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Writes to stdout; resolves when more may be written. */
  readonly out: (text: string) => Promise<void>;
  /** Writes to stderr. */
  readonly err: (text: string) => void;
  /** Whether stdout and stderr are terminals. */
  readonly outIsTty: boolean;
  readonly errIsTty: boolean;
  readonly fetch: typeof fetch;
}

/** The process's own streams and environment. */
export function processIo(): CliIo {
  // `signalbox ledger export | head` closes the pipe early: that is an end, not a failure.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
    throw error;
  });
  return {
    env: process.env,
    out: (text) =>
      new Promise((resolve, reject) => {
        process.stdout.write(text, (error) => (error ? reject(error) : resolve()));
      }),
    err: (text) => void process.stderr.write(text),
    outIsTty: process.stdout.isTTY === true,
    errIsTty: process.stderr.isTTY === true,
    fetch: globalThis.fetch,
  };
}

export type Style = "bold" | "dim" | "green" | "yellow" | "red" | "cyan";

/** The text in a style, when stdout is a terminal and NO_COLOR is not set (https://no-color.org). */
export function paint(io: CliIo, style: Style, text: string): string {
  const noColor = io.env["NO_COLOR"] ?? "";
  return io.outIsTty && noColor === "" ? styleText(style, text, { validateStream: false }) : text;
}
