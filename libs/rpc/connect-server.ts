import { createServer as createHttpServer, type RequestListener } from "node:http";
import { createSecureServer, createServer as createH2Server, type Http2SecureServer, type ServerHttp2Session } from "node:http2";
import { type AddressInfo, createServer as createNetServer, type Server, type Socket } from "node:net";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import type { Clock } from "#libs/clock/index.ts";
import type { ListenAddress } from "#libs/config/model.ts";
import type { ServiceModule } from "#libs/lifecycle/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import { toConnectError } from "./errors.ts";
import { healthService, type Serving } from "./health.ts";
import { listenOn } from "./listen.ts";
import { reflectionServices } from "./reflection.ts";
import type { RpcService } from "./service.ts";
import { type Authorize, translated } from "./translated.ts";
import { within } from "./within.ts";
import type { MeshTls } from "./wire.ts";

/** Largest message in and out, bytes. */
const MESSAGE_MAX_BYTES = 32 * 1024 * 1024;
/** Longest deadline a caller may ask for, ms. */
const TIMEOUT_MAX_MS = 3_600_000;
/** Streams one connection may have open. */
const STREAMS_MAX = 1_000;
/** Connections at once. */
const CONNECTIONS_MAX = 10_000;
/** Time for the first byte of a connection, ms. */
const FIRST_BYTE_MS = 10_000;
/** Silence after which an HTTP/1.1 connection is closed, ms; longer than any gap between a stream's messages. */
const H1_IDLE_MS = 600_000;
/** How often a drain looks for the last call's end, ms. */
const DRAIN_LOOK_MS = 20;
/** First bytes of an HTTP/2 connection; no HTTP/1 method begins so. */
const H2_PREFACE = "PRI";

/** What the public RPC listener needs. */
export interface PublicRpcDeps {
  readonly listen: ListenAddress;
  readonly services: readonly RpcService[];
  /** Whether grpc.reflection is offered. */
  readonly reflection: boolean;
  /** Whether the process can serve, for grpc.health.v1. */
  readonly health: () => boolean;
  /** Asked before every call but health and reflection; refuses by throwing. Absent: everybody may call everything. */
  readonly authorize?: Authorize;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly tls?: Pick<MeshTls, "cert" | "key"> | undefined;
}

/** The listener as a module, with the address it got. */
export interface RpcServer extends ServiceModule {
  /** Where it listens; after `start`. */
  address(): ListenAddress;
}

/**
 * The open RPC port: gRPC, gRPC-web and Connect, over HTTP/2 and HTTP/1.1 on one port (told apart by the first bytes;
 * with TLS by ALPN).
 */
export function createPublicRpcServer(deps: PublicRpcDeps): RpcServer {
  const sessions = new Set<ServerHttp2Session>();
  const sockets = new Set<Socket>();
  const shutdown = new AbortController();
  let draining = false;
  let active = 0;
  const serve = routes(deps, { serving: deps.health, ending: () => draining }, shutdown.signal);
  const handler: RequestListener = (request, response) => {
    active++;
    response.once("close", () => active--);
    serve(request, response);
  };
  const server = deps.tls ? secure(deps.tls, handler) : polyglot(handler, sessions);
  server.maxConnections = CONNECTIONS_MAX;
  server.on("session", (session: ServerHttp2Session) => track(sessions, session));
  server.on("connection", (socket: Socket) => track(sockets, socket));
  return {
    name: "rpc",
    checks: [],
    address: () => addressOf(server, deps.listen),
    start: async () => {
      await listenOn(server, deps.listen);
      deps.logger.info({ ...addressOf(server, deps.listen) }, "rpc listener open");
    },
    drain: async (graceMs) => {
      draining = true;
      server.close();
      // a closed session refuses new streams and ends with its last one
      for (const session of sessions) session.close();
      const ended = new Promise<void>((resolve) => {
        const look = (): void => (active === 0 ? resolve() : void deps.clock.after(DRAIN_LOOK_MS, look));
        look();
      });
      await within(deps.clock, graceMs, ended);
    },
    stop: async () => {
      shutdown.abort(new Error("shutting down"));
      server.close();
      for (const session of sessions) session.destroy();
      for (const socket of sockets) socket.destroy();
      await Promise.resolve();
    },
  };
}

function routes({ services, reflection, clock, authorize }: PublicRpcDeps, process: Serving, signal: AbortSignal): RequestListener {
  const offered = services.map((service) => service.descriptor);
  const names = new Set(offered.map((descriptor) => descriptor.typeName));
  const health = healthService(names, process, clock);
  const open = [health, ...(reflection ? reflectionServices([...offered, health.descriptor]) : [])];
  const toError = (cause: unknown) => toConnectError(cause);
  const all = [
    ...services.map((service) => translated(service, toError, authorize)),
    ...open.map((service) => translated(service, toError)),
  ];
  const listener = connectNodeAdapter({
    routes: (router) => {
      for (const { descriptor, implementation } of all) router.service(descriptor, implementation);
    },
    readMaxBytes: MESSAGE_MAX_BYTES,
    writeMaxBytes: MESSAGE_MAX_BYTES,
    maxTimeoutMs: TIMEOUT_MAX_MS,
    shutdownSignal: signal,
  });
  return listener as RequestListener;
}

function secure(tls: Pick<MeshTls, "cert" | "key">, handler: RequestListener): Http2SecureServer {
  const settings = { maxConcurrentStreams: STREAMS_MAX };
  return createSecureServer({ cert: tls.cert, key: tls.key, allowHTTP1: true, settings }, handler as never);
}

/** One plain-text port for both HTTP versions: HTTP/2 connections begin with a preface, everything else is HTTP/1.1. */
function polyglot(handler: RequestListener, sessions: Set<ServerHttp2Session>): Server {
  const h2 = createH2Server({ settings: { maxConcurrentStreams: STREAMS_MAX } }, handler as never);
  const h1 = createHttpServer(handler);
  h1.timeout = H1_IDLE_MS;
  h2.on("session", (session) => track(sessions, session));
  return createNetServer((socket) => {
    socket.setNoDelay(true);
    socket.setTimeout(FIRST_BYTE_MS, () => socket.destroy());
    socket.on("error", () => socket.destroy());
    socket.once("data", (chunk) => {
      socket.setTimeout(0);
      socket.pause();
      socket.unshift(chunk);
      const isH2 = chunk.subarray(0, H2_PREFACE.length).toString("latin1") === H2_PREFACE.slice(0, chunk.length);
      (isH2 ? h2 : h1).emit("connection", socket);
      if (!isH2) socket.resume();
    });
  });
}

function addressOf(server: Server | Http2SecureServer, listen: ListenAddress): ListenAddress {
  const bound = server.address() as AddressInfo | null;
  return { host: listen.host, port: bound?.port ?? listen.port };
}

function track<T extends { once(event: "close", listener: () => void): unknown }>(all: Set<T>, one: T): void {
  all.add(one);
  one.once("close", () => all.delete(one));
}
