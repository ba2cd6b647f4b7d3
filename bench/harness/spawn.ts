import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** How long a server may take to answer, ms; Python's ones load for a while. */
const READY_MS = 90_000;

/** How long a server may take to end before it is killed, ms. */
const STOP_MS = 10_000;

/** Output shown of a server that did not start, characters. */
const LOG_TAIL_CHARS = 600;

/** A server that runs as a child. */
export interface SpawnedServer {
  readonly pid: number;
  /** Its output so far, the end of it. */
  logTail(): string;
  isGone(): boolean;
  stop(): Promise<void>;
}

/** Starts `command` with its output in `logFile`. */
export function spawnServer(
  command: readonly string[],
  logFile: string,
  env: Readonly<Record<string, string>> = {},
  cwd?: string,
): SpawnedServer {
  const log = openSync(logFile, "a");
  const child = spawn(command[0]!, command.slice(1), {
    stdio: ["ignore", log, log],
    env: { ...process.env, ...env },
    ...(cwd === undefined ? {} : { cwd }),
  });
  closeSync(log);
  let isGone = false;
  const gone = new Promise<void>((resolve) => {
    const end = (): void => {
      isGone = true;
      resolve();
    };
    child.once("exit", end);
    child.once("error", end);
  });
  return {
    pid: child.pid ?? 0,
    logTail: () => readFileSync(logFile, "utf8").slice(-LOG_TAIL_CHARS),
    isGone: () => isGone,
    stop: () => stopChild(child, gone, () => isGone),
  };
}

async function stopChild(child: ChildProcess, gone: Promise<void>, isGone: () => boolean): Promise<void> {
  if (isGone()) return;
  child.kill("SIGTERM");
  const timer = setTimeout(() => void child.kill("SIGKILL"), STOP_MS);
  await gone;
  clearTimeout(timer);
}

/** Resolves when `url` answers with any status that `isReady` takes; rejects with the log's end when the server is gone or too slow. */
export async function waitFor(server: SpawnedServer, url: string, isReady: (status: number) => boolean): Promise<void> {
  const until = performance.now() + READY_MS;
  let last = "no answer";
  while (performance.now() < until && !server.isGone()) {
    try {
      const answer = await fetch(url, { signal: AbortSignal.timeout(2_000) });
      await answer.arrayBuffer();
      if (isReady(answer.status)) return;
      last = `status ${answer.status}`;
    } catch (error) {
      last = (error as Error).message;
    }
    await sleep(100);
  }
  const state = server.isGone() ? "ended" : "not ready";
  await server.stop();
  throw new Error(`${state} (${last}): ${server.logTail().trim().split("\n").slice(-4).join(" | ")}`);
}

/** Starts a server that prints one JSON line with its ports, and resolves with that. */
export async function spawnJsonServer<T>(
  command: readonly string[],
  logFile: string,
): Promise<{ readonly server: SpawnedServer; readonly ready: T }> {
  const server = spawnServer(command, logFile);
  const until = performance.now() + READY_MS;
  while (performance.now() < until && !server.isGone()) {
    const [line, rest] = readFileSync(logFile, "utf8").split("\n");
    if (line !== undefined && rest !== undefined && line.startsWith("{")) return { server, ready: JSON.parse(line) as T };
    await sleep(20);
  }
  await server.stop();
  throw new Error(`${command.join(" ")} did not start: ${server.logTail()}`);
}
