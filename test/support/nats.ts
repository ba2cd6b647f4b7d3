import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePorts } from "#deploy/local/ports.ts";

/** A real nats-server with JetStream on a free loopback port and a store of its own. */
export interface NatsServer {
  readonly url: string;
  readonly port: number;
  /** Process id, to freeze it with SIGSTOP; undefined while it is down. */
  readonly pid: number | undefined;
  /** SIGKILL, as a crash. The store stays. */
  kill(): Promise<void>;
  /** Ends it and removes its store. */
  stop(): Promise<void>;
  /** Starts it again on the same port; with `wipe` the store is new. */
  restart(options?: { readonly wipe?: boolean }): Promise<void>;
}

const READY_TIMEOUT_MS = 60_000;

/** Path of nats-server, from PATH or Debian's folder; undefined when there is none. */
export function findNats(): string | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
  return folders.map((folder) => join(folder, "nats-server")).find((path) => existsSync(path));
}

/** Why suites that need nats-server are skipped; undefined when it is there. For `test(name, { skip })`. */
export const natsMissing: string | undefined = findNats() ? undefined : "nats-server is not installed: npm run setup";

/** Starts one and resolves when it answers. Rejects when nats-server is not installed. */
export async function startNats(): Promise<NatsServer> {
  const path = findNats();
  if (!path) throw new Error("nats-server is not installed: npm run setup");
  const [port] = (await freePorts(1)) as [number];
  let store = newStore();
  let child: ChildProcess | undefined = await launch(path, port, store);
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const running = child;
    child = undefined;
    if (!running || running.exitCode !== null || running.signalCode !== null) return;
    const exited = once(running, "exit");
    running.kill(signal);
    await exited;
  };
  return {
    url: `nats://127.0.0.1:${port}`,
    port,
    get pid() {
      return child?.pid;
    },
    kill: () => end("SIGKILL"),
    stop: async () => {
      await end("SIGKILL");
      rmSync(store, { recursive: true, force: true });
    },
    restart: async (options = {}) => {
      await end("SIGKILL");
      if (options.wipe) {
        rmSync(store, { recursive: true, force: true });
        store = newStore();
      }
      child = await launch(path, port, store);
    },
  };
}

function newStore(): string {
  return mkdtempSync(join(tmpdir(), "signalbox-nats-"));
}

async function launch(path: string, port: number, store: string): Promise<ChildProcess> {
  const child = spawn(path, ["-js", "-a", "127.0.0.1", "-p", String(port), "-sd", store], { stdio: "ignore" });
  const untilMs = Date.now() + READY_TIMEOUT_MS;
  while (!(await answers(port))) {
    if (child.exitCode !== null) throw new Error(`nats-server ended with ${child.exitCode}`);
    if (Date.now() > untilMs) throw new Error("nats-server did not answer in time");
    await sleep(20);
  }
  return child;
}

/** Whether the server greets. */
async function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const done = (value: boolean): void => {
      socket.destroy();
      resolve(value);
    };
    socket.once("data", (chunk) => done(chunk.toString().startsWith("INFO")));
    socket.once("error", () => done(false));
    socket.once("close", () => done(false));
  });
}
