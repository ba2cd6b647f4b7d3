import { collectDefaultMetrics, Registry } from "prom-client";
import { createMemoryBus, openNatsBus, type EventBus, type NatsBusDeps } from "#libs/bus/index.ts";
import { createUuidV7, type LoopLag, systemClock, systemRandom } from "#libs/clock/index.ts";
import { redact, type Config } from "#libs/config/index.ts";
import type { ReadinessCheck, ServiceModule } from "#libs/lifecycle/index.ts";
import { lacking } from "#libs/peers/index.ts";
import { createMeshServer, createPublicRpcServer } from "#libs/rpc/index.ts";
import { createLogger, createMetrics } from "#libs/telemetry/index.ts";
import { createConsole, type ConsoleHost, type FaultPort } from "#services/console/index.ts";
import type { ProcessContext } from "./context.ts";
import { adminToken, openDataDir } from "./data-dir.ts";
import { MODULES, type LoadedModule } from "./modules.ts";
import type { NearHosts } from "./near.ts";
import type { ReloadableConfig } from "./reload.ts";
import { adminOnly, publicServices } from "./rpc-guard.ts";
import { ROLES, type RoleChoice } from "./roles.ts";
import { createTracing } from "./telemetry.ts";
import { meshTls } from "./tls.ts";
import { createTopology } from "./topology.ts";
import { VERSION } from "./version.ts";

/** How to run one process. */
export interface ProcessOptions {
  /** Roles to run; undefined = all of them, embedded: no NATS, no mesh listener. */
  readonly roles: readonly RoleChoice[] | undefined;
  readonly config: ReloadableConfig;
  readonly dataDir: string;
  readonly logLevel: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly simulator?: FaultPort;
  /** Whether this is `dev`: reflection on, no drain delay. */
  readonly dev?: boolean;
  /** Default: the event loop's own lateness, measured. Requests are refused, and copies dropped, where it is late. */
  readonly loopLag?: LoopLag;
}

/** host:port of each listener that is open. */
export interface ProcessAddresses {
  readonly api: string | undefined;
  readonly admin: string;
  readonly grpc: string | undefined;
  readonly mesh: string | undefined;
}

/** A running process. */
export interface RunningProcess {
  readonly addresses: ProcessAddresses;
  /** Roles in words, for the banner. */
  readonly roles: readonly string[];
  /** Takes nothing new, ends what is in hand within the grace, then stops everything. Idempotent. */
  shutdown(): Promise<void>;
  readonly context: ProcessContext;
}

/** The admin listener opens first; until all others are open too, nobody should be sent here. */
const STARTING: ReadinessCheck = { name: "startup", status: () => ({ state: "failed", detail: "listeners are not open yet" }) };

/** Starts the modules of the chosen roles in order and opens their listeners. Throws a SignalboxError that names the setting at fault. */
export async function startProcess(options: ProcessOptions): Promise<RunningProcess> {
  const { source } = options.config;
  const embedded = options.roles === undefined;
  const choices = options.roles ?? ROLES.map((role) => ({ role, only: undefined }));
  const names = choices.map(({ role, only }) => (only ? `${role}:${only}` : role));
  const context = await createContext(options, names, embedded);
  const near: NearHosts = {};
  const topology = createTopology(context, near);
  const loaded: LoadedModule[] = [];
  for (const { role, load } of MODULES) {
    const choice = choices.find((wanted) => wanted.role === role);
    if (choice) loaded.push(await load(context, topology, near, choice));
  }
  const modules: ServiceModule[] = loaded.flatMap(({ module, parts = [] }) => [...parts, module]);
  let isOpen = false;
  const own = embedded ? [] : [busCheck(context)];
  const checks = (): readonly ReadinessCheck[] => [...(isOpen ? [] : [STARTING]), ...own, ...modules.flatMap((module) => module.checks)];
  const services = loaded.flatMap((part) => part.services);
  const console = await createAdmin(options, context, {
    topology,
    near,
    checks,
    names,
    isMeshConsole: !embedded && choices.some(({ role }) => role === "console"),
  });
  const mesh = embedded
    ? undefined
    : createMeshServer({
        ...context,
        listen: source.current.mesh.listen,
        ...meshTls(source.current.mesh),
        ...(near.policy ? { policy: near.policy } : {}),
        ...(near.adapters ? { adapters: near.adapters } : {}),
        services,
      });
  const open =
    embedded || near.ingress !== undefined
      ? createPublicRpcServer({
          ...context,
          listen: source.current.server.grpc.listen,
          services: publicServices(services),
          authorize: adminOnly(adminToken(context.dataDir)),
          reflection: options.dev === true || source.current.server.grpc.reflection,
          health: () => checks().every((check) => check.status().state !== "failed"),
        })
      : undefined;
  // Listeners of the mesh open first and those of the clients last: whoever reaches us finds us ready.
  const parts: ServiceModule[] = [console.module, ...modules, ...(mesh ? [mesh] : []), ...(open ? [open] : [])];
  const started: ServiceModule[] = [];
  try {
    for (const part of parts) {
      await part.start();
      started.push(part);
    }
    isOpen = true;
  } catch (failure) {
    for (const part of started.toReversed()) await part.stop().catch(() => {});
    await topology.close();
    await context.bus.close();
    throw failure;
  }
  let ending: Promise<void> | undefined;
  return {
    roles: names,
    context,
    addresses: {
      api: near.ingress ? text(near.ingress.address()) : undefined,
      admin: text(console.address()),
      grpc: open ? text(open.address()) : undefined,
      mesh: mesh ? text(mesh.address()) : undefined,
    },
    shutdown: () => (ending ??= shutdown({ context, parts, console, close: () => topology.close() })),
  };
}

/** Without NATS everything goes on, but a new process first waits for it a while: what others push until then would pass it by. */
function busCheck({ bus, clock }: Pick<ProcessContext, "bus" | "clock">): ReadinessCheck {
  const startedMs = clock.monotonicMs();
  let met = false;
  return {
    name: "bus",
    status: () => {
      if (bus.connected) {
        met = true;
        return { state: "ok" };
      }
      if (met) return { state: "degraded", detail: "NATS is away: what others push is asked for instead, later" };
      return lacking("NATS has not been reached yet", clock, startedMs);
    },
  };
}

async function createContext(options: ProcessOptions, names: readonly string[], embedded: boolean): Promise<ProcessContext> {
  const { source } = options.config;
  const clock = systemClock;
  const random = systemRandom;
  const uuid = createUuidV7(clock, random);
  const dataDir = openDataDir(options.dataDir);
  const service = embedded ? "signalbox" : names.join("+");
  const logger = createLogger(options.logLevel, service);
  const metrics = createMetrics();
  const tracing = await createTracing({
    clock,
    random,
    share: () => source.current.telemetry.traces.sample,
    serviceName: `signalbox${embedded ? "" : `-${names[0]!.split(":")[0]}`}`,
    env: options.env,
  });
  const bus = await createBus(source.current, embedded, { clock, random, logger, metrics, name: service });
  return {
    config: source,
    clock,
    random,
    logger,
    metrics,
    tracing,
    bus,
    dataDir,
    instance: `${names[0]!.replace(":", "-")}-${uuid().slice(-12)}`,
    uuid,
    isMesh: !embedded,
    loopLag: options.loopLag,
  };
}

async function createBus(config: Config, embedded: boolean, base: Omit<NatsBusDeps, "url">): Promise<EventBus> {
  if (embedded || !config.mesh.nats) return createMemoryBus(base);
  const { url, creds } = config.mesh.nats;
  return openNatsBus({ ...base, url: url.reveal(), ...(creds ? { creds: creds.reveal() } : {}) });
}

interface AdminParts {
  readonly topology: ReturnType<typeof createTopology>;
  readonly near: NearHosts;
  readonly checks: () => readonly ReadinessCheck[];
  readonly names: readonly string[];
  readonly isMeshConsole: boolean;
}

/** The admin surface: every process has one; the console role reaches all peers, the others only those inside. */
async function createAdmin(
  options: ProcessOptions,
  context: ProcessContext,
  { topology, near, checks, names, isMeshConsole }: AdminParts,
): Promise<ConsoleHost> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  return createConsole({
    config: context.config,
    clock: context.clock,
    logger: context.logger,
    uuid: context.uuid,
    adminToken: adminToken(context.dataDir),
    version: { version: VERSION, node: process.version, roles: names, instance: context.instance },
    redactedConfig: () => redact(context.config.current),
    metricsText: async () => `${context.metrics.render()}${await registry.metrics()}`,
    checks,
    reload: () => options.config.reload(),
    ledger: near.ledger ?? (isMeshConsole ? topology.ledger() : undefined),
    control: near.control ?? (isMeshConsole ? topology.control() : undefined),
    explain: near.policy ?? (isMeshConsole ? topology.explain() : undefined),
    health: near.health ?? (isMeshConsole ? topology.health() : undefined),
    simulator: options.simulator,
  });
}

interface Ending {
  readonly context: ProcessContext;
  readonly parts: readonly ServiceModule[];
  readonly console: ConsoleHost;
  readonly close: () => Promise<void>;
}

/** Drains from the clients inwards, then lets go of everything; a part that fails to stop does not keep the others. */
async function shutdown({ context, parts, console, close }: Ending): Promise<void> {
  const { graceMs } = context.config.current.server.drain;
  const quietly = async (work: Promise<void>, part: string): Promise<void> => {
    await work.catch((failure: unknown) => context.logger.error({ error: failure, part }, "shutdown step failed"));
  };
  await quietly(console.module.drain(graceMs), "console");
  for (const part of parts.toReversed()) if (part !== console.module) await quietly(part.drain(graceMs), part.name);
  for (const part of parts.toReversed()) await quietly(part.stop(), part.name);
  await quietly(close(), "topology");
  await quietly(context.bus.close(), "bus");
  await quietly(context.tracing.close(), "tracing");
  context.logger.flush();
}

function text({ host, port }: { readonly host: string; readonly port: number }): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
