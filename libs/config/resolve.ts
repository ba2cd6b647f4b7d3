import { isExposed } from "./check-values.ts";
import * as defaults from "./defaults.ts";
import type { Config, LedgerConfig, ListenAddress, MeshConfig, ServerConfig, TelemetryConfig } from "./model.ts";
import { secretOf, type ReferenceSources } from "./references.ts";
import { resolveBackends } from "./resolve-backends.ts";
import {
  resolveClasses,
  resolveExperiments,
  resolveModels,
  resolvePrices,
  resolveResilience,
  resolveRules,
  resolveSchedules,
  resolveTenants,
} from "./resolve-policy.ts";
import type { FileConfig } from "./schema.ts";
import type { Tree } from "./tree.ts";

/** What resolving needs beside the file. */
interface ResolveContext {
  readonly sources: ReferenceSources;
  /** The tree the schema accepted, references resolved. */
  readonly tree: Tree;
  readonly configVersion: string;
  /** Folder of the ledger and the outbox, where the file does not say. */
  readonly dataDir: string;
  /** A path of the file, made relative to the file's folder. */
  readonly near: (path: string) => string;
}

/** Fills the defaults in. Total: everything that can be wrong has been checked. */
export function resolveConfig(file: FileConfig, context: ResolveContext): Config {
  const backends = resolveBackends(file, context.sources);
  const models = resolveModels(file, [...backends.keys()]);
  return deepFreeze({
    version: 1,
    configVersion: context.configVersion,
    server: resolveServer(file),
    auth: { mode: file.auth?.mode ?? (isExposed(context.tree) ? "keys" : "open") },
    backends,
    prices: resolvePrices(file, context.near),
    schedules: resolveSchedules(file),
    models,
    rules: resolveRules(file),
    classes: resolveClasses(file),
    resilience: resolveResilience(file),
    experiments: resolveExperiments(file, models),
    tenants: resolveTenants(file),
    ledger: resolveLedger(file, context),
    telemetry: resolveTelemetry(file),
    mesh: resolveMesh(file, context.sources),
  });
}

function loopback(port: number): ListenAddress {
  return { host: defaults.LOOPBACK_HOST, port };
}

function resolveServer(file: FileConfig): ServerConfig {
  const { api, admin, grpc, drain } = file.server ?? {};
  return {
    api: {
      listen: api?.listen ?? loopback(defaults.API_PORT),
      bodyMaxBytes: api?.max_body ?? defaults.BODY_MAX_BYTES,
      headerTimeoutMs: api?.header_timeout ?? defaults.HEADER_TIMEOUT_MS,
      bodyTimeoutMs: api?.body_timeout ?? defaults.BODY_TIMEOUT_MS,
      readerTimeoutMs: api?.reader_timeout ?? defaults.READER_TIMEOUT_MS,
      headersMaxBytes: api?.max_headers ?? defaults.HEADERS_MAX_BYTES,
      connectionsMax: api?.max_connections ?? defaults.CONNECTIONS_MAX,
    },
    admin: { listen: admin?.listen ?? loopback(defaults.ADMIN_PORT), allowedHosts: admin?.allowed_hosts ?? [] },
    grpc: { listen: grpc?.listen ?? loopback(defaults.GRPC_PORT), reflection: grpc?.reflection ?? false },
    drain: { delayMs: drain?.delay ?? defaults.DRAIN_DELAY_MS, graceMs: drain?.grace ?? defaults.DRAIN_GRACE_MS },
  };
}

function resolveLedger(file: FileConfig, context: ResolveContext): LedgerConfig {
  const outbox = file.ledger?.outbox;
  return {
    store: secretOf(file.ledger?.store ?? `sqlite:${context.dataDir}/ledger.db`, context.sources),
    outbox: {
      dir: outbox?.dir ?? `${context.dataDir}/outbox`,
      maxBytes: outbox?.max ?? defaults.OUTBOX_MAX_BYTES,
      onFull: outbox?.on_full ?? "block",
      durability: outbox?.durability ?? "overlapped",
    },
  };
}

function resolveTelemetry(file: FileConfig): TelemetryConfig {
  const { traces, decisions, capture_content: captureContent } = file.telemetry ?? {};
  const ring = typeof decisions === "number" ? { share: decisions } : decisions;
  return {
    captureContent: captureContent ?? false,
    traces: { sample: traces?.sample ?? defaults.TRACE_SAMPLE, always: traces?.always ?? ["error", "failover", "experiment"] },
    decisions: {
      share: ring?.share ?? defaults.DECISIONS_SHARE,
      maxBytes: (ring && "max" in ring ? ring.max : undefined) ?? defaults.DECISIONS_MAX_BYTES,
    },
  };
}

function resolveMesh(file: FileConfig, sources: ReferenceSources): MeshConfig {
  const { nats, tls, peers, listen, advertise } = file.mesh ?? {};
  return {
    nats: nats && { url: secretOf(nats.url, sources), creds: nats.creds === undefined ? undefined : secretOf(nats.creds, sources) },
    tls,
    peers: new Map(Object.entries(peers ?? {}).map(([role, address]) => [role, typeof address === "string" ? [address] : address])),
    listen: listen ?? loopback(defaults.MESH_PORT),
    advertise,
  };
}

/** Freezes mappings and lists through and through. Maps and sets are read-only by type. */
function deepFreeze<T>(value: T): T {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return value;
  if (value instanceof Map) for (const item of value.values()) deepFreeze(item);
  else if (Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype) {
    for (const item of Object.values(value)) deepFreeze(item);
    Object.freeze(value);
  }
  return value;
}
