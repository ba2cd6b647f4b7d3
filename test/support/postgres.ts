import { execFile, spawn } from "node:child_process";
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { freePorts } from "#deploy/local/ports.ts";

const run = promisify(execFile);

/** How the server goes: fast rolls back and ends, immediate is a crash. */
export type StopMode = "fast" | "immediate";

/** A throw-away PostgreSQL on 127.0.0.1. */
export interface Postgres {
  readonly url: string;
  readonly port: number;
  /** Ends the server; `start` brings it back with its data. */
  stop(mode: StopMode): Promise<void>;
  /** Starts it again on the same port. */
  start(): Promise<void>;
  /** Ends it and removes its data. */
  remove(): Promise<void>;
}

/** Why PostgreSQL tests are skipped here, with the one command that changes it; undefined when they can run. */
export function postgresMissing(): string | undefined {
  return findBinaries() === undefined ? "no PostgreSQL on this machine: npm run setup" : undefined;
}

/** Makes a cluster under the temporary folder and starts it. As root it belongs to, and runs as, the user `postgres`. */
export async function startPostgres(): Promise<Postgres> {
  const binaries = findBinaries();
  if (binaries === undefined) throw new Error(postgresMissing());
  const folder = mkdtempSync(join(tmpdir(), "signalbox-pg-"));
  const user = await userToRunAs();
  if (user) chownSync(folder, user.uid, user.gid);
  const data = join(folder, "data");
  const command = (name: string, ...args: string[]): Promise<unknown> => run(join(binaries, name), args, { ...user, cwd: folder });
  await command("initdb", "-D", data, "-U", "signalbox", "--auth=trust", "--encoding=UTF8", "--no-sync", "--locale=C");
  const [port] = (await freePorts(1)) as [number];
  const options = `-c listen_addresses=127.0.0.1 -p ${port} -c unix_socket_directories= -c max_connections=50 -c shared_buffers=32MB`;
  const start = (): Promise<void> =>
    startServer(join(binaries, "pg_ctl"), ["-D", data, "-w", "-t", "120", "-l", join(folder, "log"), "-o", options, "start"], {
      ...user,
      cwd: folder,
    });
  const stop = async (mode: StopMode): Promise<void> => {
    await command("pg_ctl", "-D", data, "-w", "-m", mode, "stop");
  };
  await start();
  return {
    url: `postgres://signalbox@127.0.0.1:${port}/postgres`,
    port,
    stop,
    start,
    remove: async () => {
      await stop("immediate").catch(() => undefined);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** pg_ctl leaves the server behind with its own output streams: they must not be pipes of ours, or nobody ever ends. */
function startServer(path: string, args: readonly string[], options: { uid?: number; gid?: number; cwd: string }): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(path, args, { ...options, stdio: "ignore" });
    child.once("error", reject);
    child.once("exit", (code) => (code === 0 ? resolve() : reject(new Error(`pg_ctl start ended with ${code}`))));
  });
}

function findBinaries(): string | undefined {
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  const debian = "/usr/lib/postgresql";
  if (existsSync(debian)) {
    const versions = readdirSync(debian).toSorted((a, b) => Number(b) - Number(a));
    folders.unshift(...versions.map((version) => join(debian, version, "bin")));
  }
  return folders.find((folder) => existsSync(join(folder, "initdb")) && existsSync(join(folder, "pg_ctl")));
}

async function userToRunAs(): Promise<{ uid: number; gid: number } | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const id = async (flag: string): Promise<number> => Number((await run("id", [flag, "postgres"])).stdout);
  return { uid: await id("-u"), gid: await id("-g") };
}
