import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chownSync, existsSync, mkdirSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { systemClock } from "#libs/clock/index.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { findServers } from "../servers.ts";
import { keepRunning, type KeptChild } from "./child.ts";
import { freePorts } from "./ports.ts";

/** A server of this machine, kept running. */
export interface LocalServer {
  readonly url: string;
  /** Kills it with SIGKILL and keeps it down, as a crash would. */
  kill(): void;
  /** Starts it again on the same port and store. */
  revive(): void;
  stop(): Promise<void>;
}

/** How long a server may take to answer, ms. */
const READY_MS = 60_000;

/** How long it may take to end before it is killed, ms. */
const STOP_MS = 5_000;

/** A nats-server with JetStream; its store is in `dir`. */
export async function keepNats(dir: string): Promise<LocalServer> {
  const { natsServer } = findServers();
  if (!natsServer) throw new SignalboxError("INTERNAL", "nats-server is not on this machine: npm run setup");
  mkdirSync(dir, { recursive: true });
  const [port] = await freePorts(1);
  const child = keepRunning({
    name: "nats-server",
    command: natsServer,
    args: ["-js", "-a", "127.0.0.1", "-p", String(port), "-sd", dir],
    logFile: join(dir, "nats.log"),
  });
  await answering(port!, "nats-server");
  return serverOf(`nats://127.0.0.1:${port}`, child);
}

/**
 * A PostgreSQL cluster in `dir`, made at the first start. As root it runs as the user `postgres`, since it refuses root; where that user
 * cannot reach `dir`, the cluster is in the system's folder for temporary files.
 */
export async function keepPostgres(wanted: string): Promise<LocalServer> {
  const { postgresBin } = findServers();
  if (!postgresBin) throw new SignalboxError("INTERNAL", "PostgreSQL is not on this machine: npm run setup");
  const identity = serverIdentity();
  const dir = reachableFolder(wanted, identity);
  const data = join(dir, "data");
  mkdirSync(dir, { recursive: true });
  if (identity) chownSync(dir, identity.uid, identity.gid);
  if (!existsSync(join(data, "PG_VERSION"))) {
    const made = spawnSync(join(postgresBin, "initdb"), ["-D", data, "-U", "signalbox", "--auth=trust", "--no-sync", "-E", "UTF8"], {
      ...identity,
      cwd: dir,
      encoding: "utf8",
    });
    if (made.status !== 0) throw new SignalboxError("INTERNAL", `initdb failed: ${made.stderr.trim()}`);
  }
  const [port] = await freePorts(1);
  const args = ["-D", data, "-h", "127.0.0.1", "-p", String(port), "-k", dir];
  const child = keepRunning({
    name: "postgres",
    command: join(postgresBin, "postgres"),
    args,
    cwd: dir,
    ...identity,
    logFile: join(dir, "postgres.log"),
  });
  await answering(port!, "PostgreSQL");
  return serverOf(`postgres://signalbox@127.0.0.1:${port}/postgres`, child);
}

function serverOf(url: string, child: KeptChild): LocalServer {
  return {
    url,
    kill: () => {
      child.hold();
      child.signal("SIGKILL");
    },
    revive: () => child.start(),
    stop: () => child.stop(STOP_MS),
  };
}

function reachableFolder(dir: string, identity: { readonly uid: number; readonly gid: number } | undefined): string {
  if (!identity) return dir;
  mkdirSync(dir, { recursive: true });
  if (spawnSync("test", ["-x", dir], identity).status === 0) return dir;
  return join(tmpdir(), `signalbox-postgres-${createHash("sha256").update(resolve(dir)).digest("hex").slice(0, 16)}`);
}

/** Numeric ids of the user `postgres` when we are root; undefined otherwise. */
function serverIdentity(): { readonly uid: number; readonly gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const idOf = (flag: string): number => Number(spawnSync("id", [flag, "postgres"], { encoding: "utf8" }).stdout.trim());
  return { uid: idOf("-u"), gid: idOf("-g") };
}

async function answering(port: number, name: string): Promise<void> {
  const untilMs = systemClock.monotonicMs() + READY_MS;
  while (systemClock.monotonicMs() < untilMs) {
    if (await accepts(port)) return;
    await systemClock.sleep(50);
  }
  throw new SignalboxError("INTERNAL", `${name} does not answer on port ${port} after ${READY_MS / 1000} s; see its log.`);
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
