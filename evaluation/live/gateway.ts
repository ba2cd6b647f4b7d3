import { spawn, type ChildProcess } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { startMesh } from "#deploy/local/mesh.ts";
import { freePorts } from "#deploy/local/ports.ts";
import { keepNats, keepPostgres } from "#deploy/local/servers.ts";
import type { PoolBackend } from "../pool.ts";
import { signalboxYaml } from "../signalbox-config.ts";
import type { PoolSpec } from "../testbed.ts";
import type { Slo } from "../workload.ts";
import type { LiveTarget } from "./live-pool.ts";

/** Processes of the mesh, four ports each. */
const PROCESSES_MAX = 8;

/** Concurrency that holds nobody back: a rival's own formula decides how much each engine gets. */
const UNLIMITED = 100_000;

/** The mesh over engines of its own. */
export interface LiveGateway {
  readonly target: LiveTarget;
  stop(): Promise<void>;
}

/**
 * Starts the engines in their process and the mesh in its processes, with a nats-server and a PostgreSQL of their own in `dir`.
 * For a rival nothing in the mesh may wait, time out early or give up: the client chooses, the mesh carries.
 */
export async function startLive(
  dir: string,
  spec: PoolSpec,
  backends: readonly PoolBackend[],
  slo: Slo,
  isRival: boolean,
): Promise<LiveGateway> {
  const stops: (() => Promise<void>)[] = [];
  const stop = async (): Promise<void> => {
    for (const end of stops.splice(0).toReversed()) await end();
  };
  try {
    mkdirSync(dir, { recursive: true });
    const engines = await startEngines(spec);
    stops.push(() => engines.stop());
    const nats = await keepNats(join(dir, "nats"));
    stops.push(() => nats.stop());
    const postgres = await keepPostgres(join(dir, "postgres"));
    stops.push(() => postgres.stop());
    const ports = await freePorts(4 * PROCESSES_MAX);
    const mesh = await startMesh({
      config: configOf(backends, engines.ports, slo, isRival),
      dir,
      natsUrl: nats.url,
      databaseUrl: postgres.url,
      scale: { adapterOpenai: 1, adapterAnthropic: 0 },
      ports: () => ({ api: ports.pop()!, admin: ports.pop()!, grpc: ports.pop()!, mesh: ports.pop()! }),
      env: { SIGNALBOX_LOG_LEVEL: "warn" },
    });
    stops.push(() => mesh.stop());
    const api = mesh.url("ingress", "api");
    const modelOf = (backend: number): string => (backend < 0 ? "chat" : `direct-${backends[backend]!.name}`);
    return { target: { api, modelOf }, stop };
  } catch (failure) {
    await stop();
    throw failure;
  }
}

/** The configuration of the virtual run with real addresses, and one model per backend for rivals to choose by. */
function configOf(backends: readonly PoolBackend[], ports: readonly number[], slo: Slo, isRival: boolean): string {
  const limits = isRival ? ({ limits: "fixed", concurrency: UNLIMITED } as const) : {};
  let text = signalboxYaml(backends, { ttftSloMs: slo.ttftMs, tpotSloMs: slo.tpotMs, ...limits });
  for (const [at, { name }] of backends.entries()) text = text.replaceAll(`http://${name}:8000`, `http://127.0.0.1:${ports[at]}`);
  const direct = backends.map(({ name }) => `  direct-${name}: { candidates: [${name}], class: interactive }`).join("\n");
  text = text.replace("\nclasses:", `\n${direct}\nclasses:`);
  const patience = isRival ? "resilience: { timeouts: { first_token: 600s, idle_stream: 600s } }\n" : "";
  return `${text}${patience}server: { drain: { delay: 0s, grace: 5s } }\nauth: { mode: open }\n`;
}

async function startEngines(spec: PoolSpec): Promise<{ readonly ports: readonly number[]; stop(): Promise<void> }> {
  const main = fileURLToPath(new URL("engines-main.ts", import.meta.url));
  const profiles = JSON.stringify(spec.machines.map(({ profile }) => profile));
  const child: ChildProcess = spawn(process.execPath, [main, profiles], { stdio: ["ignore", "pipe", "inherit"] });
  const gone = new Promise<void>((resolve) => void child.once("exit", () => resolve()));
  const line = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout! }).once("line", resolve);
    child.once("exit", (code) => reject(new Error(`the engines' process ended with ${code}`)));
  });
  const { ports } = JSON.parse(line) as { ports: number[] };
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    await gone;
  };
  return { ports, stop };
}
