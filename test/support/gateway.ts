import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { keepNats, keepPostgres, type LocalServer } from "#deploy/local/servers.ts";
import { startMesh, type Mesh, type MeshOptions } from "#deploy/local/mesh.ts";
import type { MeshScale, ProcessPorts } from "#deploy/local/mesh-layout.ts";
import { freePorts } from "#deploy/local/ports.ts";
import { startProcess, type RunningProcess } from "#deploy/process.ts";
import { openConfigFile } from "#deploy/reload.ts";
import { findServers } from "#deploy/servers.ts";
import { noLag } from "#libs/clock/index.ts";

/** An entry as `ledger export -o json` prints it. */
export interface EntryLine {
  readonly attempt_id: string;
  readonly request_id: string;
  readonly attempt: number;
  readonly tenant: string;
  readonly team: string;
  readonly key_id: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly model: string;
  readonly backend: string;
  readonly provider: string;
  readonly upstream_model: string;
  readonly input_tokens: string;
  readonly cache_read_tokens: string;
  readonly cache_write_tokens: string;
  readonly output_tokens: string;
  readonly reasoning_tokens: string;
  readonly cost_nano_usd: string;
  readonly outcome: string;
  readonly estimated: boolean;
  readonly reserved_nano_usd: string;
}

/** How a gateway runs. */
export type TopologyName = "embedded" | "mesh";

/** What a gateway is started from. */
export interface GatewayOptions {
  readonly topology: TopologyName;
  /** The configuration without listeners, ledger and mesh. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly env?: Readonly<Record<string, string>>;
  readonly scale?: Partial<MeshScale>;
  readonly logLevel?: string;
  /** Puts something between the mesh and its database: takes the database's port and returns the one to use. */
  readonly database?: (port: number) => Promise<number>;
}

/** A running gateway, whatever it is made of. */
export interface Gateway {
  readonly topology: TopologyName;
  /** http://127.0.0.1:PORT of the (first) ingress. */
  readonly api: string;
  readonly admin: string;
  readonly adminToken: string;
  /** host:port of the public gRPC listener. */
  readonly grpc: string;
  readonly dir: string;
  /** The mesh's processes; undefined when embedded. */
  readonly mesh: Mesh | undefined;
  /** NATS and PostgreSQL of the mesh. */
  readonly nats: LocalServer | undefined;
  readonly postgres: LocalServer | undefined;
  /** The process itself when embedded. */
  readonly process: RunningProcess | undefined;
  /** Calls the admin API. */
  adminCall(method: string, path: string, body?: unknown): Promise<{ status: number; json: Record<string, unknown> }>;
  /** All entries, in booking order. */
  entries(): Promise<EntryLine[]>;
  /** Resolves with all entries once there are at least `count`; rejects after two minutes with what there is. */
  entriesAtLeast(count: number): Promise<EntryLine[]>;
  stop(): Promise<void>;
}

/** Why mesh suites are skipped; undefined when the servers are there. */
export function meshMissing(): string | undefined {
  const { natsServer, postgresBin } = findServers();
  return natsServer && postgresBin ? undefined : "nats-server or PostgreSQL is not installed: npm run setup";
}

const ENTRIES_WAIT_MS = 120_000;

/** Starts a gateway on free loopback ports with a data folder of its own. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const dir = mkdtempSync(join(tmpdir(), "signalbox-test-"));
  // PostgreSQL runs as another user when the tests run as root: it must get through to its own folder.
  chmodSync(dir, 0o711);
  const parts = options.topology === "embedded" ? await startEmbedded(dir, options) : await startParts(dir, options);
  const call = (path: string, init: RequestInit = {}): Promise<Response> =>
    fetch(`${parts.admin}${path}`, {
      ...init,
      headers: { authorization: `Bearer ${parts.adminToken}`, "content-type": "application/json" },
    });
  const entries = async (): Promise<EntryLine[]> => {
    const text = await (await call("/api/ledger/entries")).text();
    return text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as EntryLine);
  };
  return {
    ...parts,
    topology: options.topology,
    dir,
    adminCall: async (method, path, body) => {
      const answer = await call(path, { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
      return { status: answer.status, json: (await answer.json()) as Record<string, unknown> };
    },
    entries,
    entriesAtLeast: async (count) => {
      const until = Date.now() + ENTRIES_WAIT_MS;
      for (;;) {
        const { json } = { json: (await (await call("/api/ledger/summary")).json()) as { entries: string } };
        if (Number(json.entries) >= count) return entries();
        if (Date.now() > until) throw new Error(`${json.entries} entries after ${ENTRIES_WAIT_MS / 1000} s, ${count} wanted`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
    stop: async () => {
      await parts.end();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

interface Parts {
  readonly api: string;
  readonly admin: string;
  readonly adminToken: string;
  readonly grpc: string;
  readonly mesh: Mesh | undefined;
  readonly nats: LocalServer | undefined;
  readonly postgres: LocalServer | undefined;
  readonly process: RunningProcess | undefined;
  end(): Promise<void>;
}

async function startEmbedded(dir: string, options: GatewayOptions): Promise<Parts> {
  const file = join(dir, "signalbox.yaml");
  writeFileSync(file, stringify(withQuickDrain(options.config)));
  const opened = openConfigFile(file, dir, { port: 0, adminPort: 0, grpcPort: 0 });
  if (opened.problems) throw new Error(opened.problems.join("\n"));
  const process = await startProcess({
    roles: undefined,
    config: opened.config,
    dataDir: dir,
    logLevel: options.logLevel ?? "silent",
    env: options.env ?? {},
    // How late this machine is depends on what else it does: no test here is about that.
    loopLag: noLag,
  });
  const { api, admin, grpc } = process.addresses;
  return {
    api: `http://${api}`,
    admin: `http://${admin}`,
    adminToken: readFileSync(join(dir, "admin.token"), "utf8").trim(),
    grpc: grpc!,
    mesh: undefined,
    nats: undefined,
    postgres: undefined,
    process,
    end: () => process.shutdown(),
  };
}

async function startParts(dir: string, options: GatewayOptions): Promise<Parts> {
  const ports = await freePorts(4 * 16);
  const next = (): ProcessPorts => ({ api: ports.pop()!, admin: ports.pop()!, grpc: ports.pop()!, mesh: ports.pop()! });
  const nats = await keepNats(join(dir, "nats"));
  const postgres = await keepPostgres(join(dir, "postgres")).catch(async (failure: unknown) => {
    await nats.stop();
    throw failure;
  });
  const meshOptions: MeshOptions = {
    config: stringify(withQuickDrain(options.config)),
    dir,
    natsUrl: nats.url,
    databaseUrl: await databaseUrl(postgres.url, options),
    ports: next,
    env: { SIGNALBOX_LOG_LEVEL: options.logLevel ?? "warn", ...options.env },
    ...(options.scale ? { scale: options.scale } : {}),
  };
  const mesh = await startMesh(meshOptions).catch(async (failure: unknown) => {
    await postgres.stop();
    await nats.stop();
    throw failure;
  });
  const ingress = mesh.processes.find(({ role }) => role === "ingress")!.name;
  return {
    api: mesh.url(ingress, "api"),
    admin: mesh.url("console", "admin"),
    adminToken: readFileSync(join(mesh.dataDir("console"), "admin.token"), "utf8").trim(),
    grpc: mesh.url(ingress, "grpc").replace("http://", ""),
    mesh,
    nats,
    postgres,
    process: undefined,
    end: async () => {
      await mesh.stop();
      await postgres.stop();
      await nats.stop();
    },
  };
}

async function databaseUrl(text: string, { database }: GatewayOptions): Promise<string> {
  const url = new URL(text);
  if (database) url.port = String(await database(Number(url.port)));
  return url.href;
}

/** Nothing balances load in front of a test: drain at once, and wait at most 10 s for streams. */
function withQuickDrain(config: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const server = (config["server"] ?? {}) as Record<string, unknown>;
  return { version: 1, ...config, server: { drain: { delay: "0s", grace: "10s" }, ...server } };
}
