import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "#libs/clock/index.ts";
import { keepRunning, type KeptChild } from "./child.ts";
import { DEFAULT_SCALE, layoutMesh, meshConfigText, type MeshProcess, type MeshScale, type ProcessPorts } from "./mesh-layout.ts";

/** How long a mesh may take to be ready before it is called broken, ms. */
const READY_MS = 180_000;

/** How long a process may take to end before it is killed, ms. */
const STOP_GRACE_MS = 20_000;

/** What a mesh is started from. */
export interface MeshOptions {
  /** Configuration text; its `mesh` and `ledger.store` are replaced. */
  readonly config: string;
  /** Folder for data, configuration and logs. */
  readonly dir: string;
  readonly natsUrl: string;
  readonly databaseUrl: string;
  readonly scale?: Partial<MeshScale>;
  /** Ports of a process by its name. */
  readonly ports: (name: string) => ProcessPorts;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Node binary. Default: the one that runs this. */
  readonly node?: string;
  /** Prefix for each command, e.g. `["taskset", "-c", "0"]`. */
  readonly wrap?: readonly string[];
  /** Where the children's output goes: a log file each (default), or our own standard error. */
  readonly inheritOutput?: boolean;
}

/** A running mesh. */
export interface Mesh {
  readonly processes: readonly MeshProcess[];
  child(name: string): KeptChild;
  /** http://127.0.0.1:PORT of a process's listener. */
  url(name: string, listener: keyof ProcessPorts): string;
  /** Data folder of a process (its admin.token is there). */
  dataDir(name: string): string;
  /** Resolves when the process answers 200 on /readyz. */
  ready(name: string): Promise<void>;
  /** Ends every process, clients' side first. */
  stop(): Promise<void>;
}

/** Starts every process of a mesh on this machine and resolves when all of them are ready. */
export async function startMesh(options: MeshOptions): Promise<Mesh> {
  const processes = layoutMesh({ ...DEFAULT_SCALE, ...options.scale }, options.ports);
  mkdirSync(options.dir, { recursive: true });
  const configFile = join(options.dir, "signalbox.yaml");
  writeFileSync(configFile, meshConfigText(options.config, processes));
  const children = new Map(processes.map((process) => [process.name, startChild(process, configFile, options)]));
  const mesh: Mesh = {
    processes,
    child: (name) => need(children.get(name), name),
    url: (name, listener) =>
      `http://127.0.0.1:${
        need(
          processes.find((process) => process.name === name),
          name,
        ).ports[listener]
      }`,
    dataDir: (name) => join(options.dir, name),
    ready: (name) => waitReady(mesh.url(name, "admin"), name, mesh.child(name)),
    stop: async () => {
      for (const { name } of processes.toReversed()) await mesh.child(name).stop(STOP_GRACE_MS);
    },
  };
  try {
    await Promise.all(processes.map(({ name }) => mesh.ready(name)));
    return mesh;
  } catch (failure) {
    await mesh.stop();
    throw failure;
  }
}

function need<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw new Error(`There is no ${name} in this mesh.`);
  return value;
}

/** As bin/signalbox starts it, which says why. */
export const NODE_FLAGS = process.version.startsWith("v24.") ? ["--no-memory-reducer", "--heap-growing-percent=100"] : [];

function startChild({ name, role, ports }: MeshProcess, configFile: string, options: MeshOptions): KeptChild {
  const dataDir = join(options.dir, name);
  mkdirSync(dataDir, { recursive: true });
  const main = new URL("../main.ts", import.meta.url).pathname;
  const compileCache = new URL("../../node_modules/.cache/signalbox", import.meta.url).pathname;
  const args = ["serve", "--role", role, "--config", configFile, "--data-dir", dataDir];
  args.push(
    "--port",
    String(ports.api),
    "--admin-port",
    String(ports.admin),
    "--grpc-port",
    String(ports.grpc),
    "--mesh-port",
    String(ports.mesh),
  );
  const [command, ...rest] = [...(options.wrap ?? []), options.node ?? process.execPath, ...NODE_FLAGS, main, ...args];
  return keepRunning({
    name,
    command: command!,
    args: rest,
    env: { NO_COLOR: "1", NODE_COMPILE_CACHE: compileCache, ...options.env, NATS_URL: options.natsUrl, DATABASE_URL: options.databaseUrl },
    ...(options.inheritOutput ? {} : { logFile: join(options.dir, `${name}.log`) }),
  });
}

async function waitReady(admin: string, name: string, child: KeptChild): Promise<void> {
  const untilMs = systemClock.monotonicMs() + READY_MS;
  let last = "no answer";
  while (systemClock.monotonicMs() < untilMs) {
    try {
      const answer = await fetch(`${admin}/readyz?verbose`, { signal: AbortSignal.timeout(2_000) });
      last = (await answer.text()).trim();
      if (answer.ok) return;
    } catch (failure) {
      last = (failure as Error).message;
    }
    await systemClock.sleep(100);
  }
  throw new Error(`${name} (process ${child.pid() ?? "down"}) is not ready after ${READY_MS / 1000} s: ${last}`);
}
