import { spawn, type ChildProcess } from "node:child_process";
import { createWriteStream } from "node:fs";
import { once } from "node:events";
import { systemClock } from "#libs/clock/index.ts";

/** First wait before a dead process is started again, ms; doubles up to the longest, and starts over after a minute of life. */
const RESTART_FIRST_MS = 1_000;
const RESTART_LONGEST_MS = 15_000;
const SETTLED_MS = 60_000;

/** How to run one process. */
export interface ChildOptions {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Runs as this user (numeric ids); PostgreSQL refuses to run as root. */
  readonly uid?: number;
  readonly gid?: number;
  /** Everything it prints goes here; undefined = our own standard error. */
  readonly logFile?: string;
  /** Whether it comes back when it dies unasked. Default true. */
  readonly restart?: boolean;
}

/** A process that is kept running. */
export interface KeptChild {
  readonly name: string;
  /** Process id now; undefined while it is down. */
  pid(): number | undefined;
  /** Sends a signal to the process as it runs now. */
  signal(signal: NodeJS.Signals): void;
  /** Ends it for good: SIGTERM, and SIGKILL after the grace. */
  stop(graceMs: number): Promise<void>;
  /** Starts it again after `stop` or `hold`; does nothing while it runs. */
  start(): void;
  /** Does not start it again when it dies. */
  hold(): void;
  /** Calls `listener` at every exit. */
  onExit(listener: (code: number | null, signal: NodeJS.Signals | null) => void): void;
}

/** Starts a process and keeps it running: a dead one is started again after 1 s, backing off. */
export function keepRunning(options: ChildOptions): KeptChild {
  let child: ChildProcess | undefined;
  let wanted = true;
  let waitMs = RESTART_FIRST_MS;
  let startedAtMs = 0;
  const listeners: ((code: number | null, signal: NodeJS.Signals | null) => void)[] = [];

  function start(): void {
    if (child) return;
    startedAtMs = systemClock.monotonicMs();
    const { uid, gid } = options;
    const running = spawn(options.command, options.args, {
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      env: { ...process.env, ...options.env },
      ...(uid === undefined ? {} : { uid }),
      ...(gid === undefined ? {} : { gid }),
      stdio: ["ignore", options.logFile ? "pipe" : "inherit", options.logFile ? "pipe" : "inherit"],
    });
    child = running;
    if (options.logFile) {
      const log = createWriteStream(options.logFile, { flags: "a" });
      running.stdout?.pipe(log, { end: false });
      running.stderr?.pipe(log, { end: false });
    }
    running.once("error", () => ended(running, null, null));
    running.once("exit", (code, signal) => ended(running, code, signal));
  }

  function ended(running: ChildProcess, code: number | null, signal: NodeJS.Signals | null): void {
    if (child !== running) return;
    child = undefined;
    for (const listener of listeners) listener(code, signal);
    if (!wanted || options.restart === false) return;
    if (systemClock.monotonicMs() - startedAtMs > SETTLED_MS) waitMs = RESTART_FIRST_MS;
    systemClock.after(waitMs, () => {
      if (wanted) start();
    });
    waitMs = Math.min(RESTART_LONGEST_MS, waitMs * 2);
  }

  start();
  return {
    name: options.name,
    pid: () => child?.pid,
    signal: (signal) => void child?.kill(signal),
    start: () => {
      wanted = true;
      start();
    },
    hold: () => {
      wanted = false;
    },
    stop: async (graceMs) => {
      wanted = false;
      const running = child;
      if (!running || running.exitCode !== null) return;
      const gone = once(running, "exit");
      running.kill("SIGTERM");
      const timer = systemClock.after(graceMs, () => void running.kill("SIGKILL"));
      await gone;
      timer.cancel();
    },
    onExit: (listener) => void listeners.push(listener),
  };
}
