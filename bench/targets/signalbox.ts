import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { startMesh, type Mesh } from "#deploy/local/mesh.ts";
import { freePorts } from "#deploy/local/ports.ts";
import { spawnServer, waitFor } from "../harness/spawn.ts";
import { onPath } from "./peers.ts";
import { CHAT_PATH, MODEL, PACED_MODEL, type BenchEnvironment, type Endpoint, type Target } from "./target.ts";

const LAUNCHER = fileURLToPath(new URL("../../bin/signalbox", import.meta.url));

/** Both backends may take every stream of the bench at once: what is measured is the gateway, not its limits. */
const CONCURRENCY_MAX = 4096;

/** Everything on: keys, prices, budgets' arithmetic, ledger, metrics, 10 % of the traces. */
function configText(environment: BenchEnvironment): string {
  const backend = (port: number): string =>
    `{ provider: openai-compatible, url: "http://127.0.0.1:${port}/v1", model: ${MODEL}, context: 128k, capabilities: [tools], ` +
    `concurrency: { mode: fixed, max: ${CONCURRENCY_MAX} }, price: { per_million: { input: $0.25, output: $2.00 } } }`;
  return `version: 1
server: { drain: { delay: 0s, grace: 5s } }
auth: { mode: keys }
backends:
  fast: ${backend(environment.upstreamPort)}
  paced: ${backend(environment.pacedPort)}
models:
  ${MODEL}: { candidates: [fast] }
  ${PACED_MODEL}: { candidates: [paced] }
telemetry: { traces: { sample: 10%, always: [error, failover] } }
`;
}

function traceEnvironment(environment: BenchEnvironment): Record<string, string> {
  return { OTEL_EXPORTER_OTLP_ENDPOINT: environment.otlpEndpoint, SIGNALBOX_LOG_LEVEL: "info", NO_COLOR: "1" };
}

/** How long the admin API may take to reach the ledger, ms: its process can be ready before the connection is. */
const KEY_MS = 15_000;

/** Makes a key through the admin API, with the token its process left in `dataDir`; asks again while a service cannot be reached. */
async function createKey(adminUrl: string, dataDir: string): Promise<string> {
  const until = performance.now() + KEY_MS;
  for (;;) {
    try {
      return await askForKey(adminUrl, dataDir);
    } catch (failure) {
      if (performance.now() > until) throw failure;
      await sleep(250);
    }
  }
}

async function askForKey(adminUrl: string, dataDir: string): Promise<string> {
  const token = readFileSync(`${dataDir}/admin.token`, "utf8").trim();
  const answer = await fetch(`${adminUrl}/api/keys`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ tenant: "bench", name: "bench" }),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`no key: ${answer.status} ${text.slice(0, 300)}`);
  return (JSON.parse(text) as { key: string }).key;
}

function endpointOf(port: number, key: string): (isPaced: boolean) => Endpoint {
  return (isPaced) => ({ port, path: CHAT_PATH, headers: { authorization: `Bearer ${key}` }, model: isPaced ? PACED_MODEL : MODEL });
}

/** All services in one process. */
export const embedded: Target = {
  id: "embedded",
  title: "Signalbox embedded",
  compiles: true,
  start: async (environment) => {
    const folder = `${environment.folder}/embedded`;
    mkdirSync(folder, { recursive: true });
    writeFileSync(`${folder}/signalbox.yaml`, configText(environment));
    const [api, admin, grpc] = await freePorts(3);
    const ports = ["--port", String(api), "--admin-port", String(admin), "--grpc-port", String(grpc)];
    const command = [
      ...environment.pin,
      LAUNCHER,
      "serve",
      "--config",
      `${folder}/signalbox.yaml`,
      "--data-dir",
      `${folder}/data`,
      ...ports,
    ];
    const server = spawnServer(command, `${environment.folder}/embedded.log`, traceEnvironment(environment), folder);
    await waitFor(server, `http://127.0.0.1:${admin}/readyz`, (status) => status === 200);
    try {
      const key = await createKey(`http://127.0.0.1:${admin}`, `${folder}/data`);
      return { endpoint: endpointOf(api!, key), roots: () => [server.pid], stop: () => server.stop() };
    } catch (failure) {
      await server.stop();
      throw failure;
    }
  },
};

/** One process a service, NATS between them; the ledger's store is SQLite unless DATABASE_URL names another. */
export const mesh: Target = {
  id: "mesh",
  title: "Signalbox mesh",
  compiles: true,
  start: async (environment) => {
    const natsPath = onPath("nats-server");
    if (natsPath === undefined) return undefined;
    const folder = `${environment.folder}/mesh`;
    mkdirSync(folder, { recursive: true });
    const [natsPort] = await freePorts(1);
    const natsCommand = [...environment.pin, natsPath, "-js", "-a", "127.0.0.1", "-p", String(natsPort), "-sd", `${folder}/nats`];
    const nats = spawnServer(natsCommand, `${environment.folder}/nats.log`);
    const ports = await freePorts(4 * PROCESSES_MAX);
    const running = await startMesh({
      config: configText(environment),
      dir: folder,
      natsUrl: `nats://127.0.0.1:${natsPort}`,
      databaseUrl: process.env["DATABASE_URL"] ?? `sqlite:${folder}/ledger.db`,
      scale: { adapterOpenai: 1, adapterAnthropic: 0 },
      ports: () => ({ api: ports.pop()!, admin: ports.pop()!, grpc: ports.pop()!, mesh: ports.pop()! }),
      env: traceEnvironment(environment),
      wrap: environment.pin,
    }).catch(async (failure: unknown) => {
      await nats.stop();
      throw failure;
    });
    const stop = async (): Promise<void> => {
      await running.stop();
      await nats.stop();
    };
    try {
      const key = await createKey(running.url("console", "admin"), running.dataDir("console"));
      const api = Number(new URL(running.url("ingress", "api")).port);
      return { endpoint: endpointOf(api, key), roots: () => [nats.pid, ...pidsOf(running)], stop };
    } catch (failure) {
      await stop();
      throw failure;
    }
  },
};

/** Processes of a mesh at most, for its ports. */
const PROCESSES_MAX = 8;

function pidsOf(running: Mesh): number[] {
  return running.processes.flatMap(({ name }) => running.child(name).pid() ?? []);
}
