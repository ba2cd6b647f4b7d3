import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { SignalboxError } from "#libs/errors/index.ts";
import type { ServiceModule } from "#libs/lifecycle/index.ts";
import { apiRoutes } from "./api.ts";
import type { AdminHandler } from "./call.ts";
import type { ConsoleDeps } from "./deps.ts";
import { createGuard } from "./guard.ts";
import { sendError, sendJson, sendText } from "./http.ts";
import { readiness } from "./probes.ts";
import { matchRoute, type Route } from "./routes.ts";

/** A slow admin client is cut off after this. */
const REQUEST_TIMEOUT_MS = 30_000;

/** Admin connections at once; people and scrapers, not traffic. */
const CONNECTIONS_MAX = 256;

/** The console: the admin HTTP surface of one process. */
export interface ConsoleHost {
  readonly module: ServiceModule;
  /** Where it listens; only after start. */
  address(): { readonly host: string; readonly port: number };
}

/** Makes the admin HTTP surface. It listens on server.admin.listen. */
export function createConsole(deps: ConsoleDeps): ConsoleHost {
  let draining = false;
  const guard = createGuard(deps.adminToken, () => deps.config.current.server.admin.allowedHosts);
  const routes = [...openRoutes(deps, () => draining), ...apiRoutes(deps)];
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    handle(request, response).catch((failure: unknown) => {
      if (!(failure instanceof SignalboxError)) deps.logger.error({ error: failure, url: request.url }, "admin request failed");
      sendError(response, failure);
    });
  });
  server.maxConnections = CONNECTIONS_MAX;

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    guard.host(request);
    const url = new URL(request.url ?? "/", "http://admin");
    const { route, values } = matchRoute(routes, request.method ?? "GET", url.pathname);
    if (route.access === "admin" || (route.access === "loopback" && !isLoopback(deps))) guard.token(request);
    await route.handle({ request, response, query: url.searchParams, values });
  }

  return {
    module: {
      name: "console",
      start: () => listen(server, deps),
      drain: () => {
        draining = true;
        return Promise.resolve();
      },
      stop: () => close(server),
      checks: [],
    },
    address: () => {
      const { address, port } = server.address() as AddressInfo;
      return { host: address, port };
    },
  };
}

function openRoutes(deps: ConsoleDeps, draining: () => boolean): Route<AdminHandler>[] {
  const get = (access: Route<AdminHandler>["access"], path: string, handle: AdminHandler): Route<AdminHandler> => ({
    method: "GET",
    path,
    access,
    handle,
  });
  return [
    get("open", "/livez", ({ response }) => sendText(response, 200, "ok\n")),
    get("open", "/readyz", ({ response, query }) => {
      const { ready, text } = readiness(deps.checks(), draining(), query.has("verbose"));
      sendText(response, ready ? 200 : 503, text);
    }),
    get("loopback", "/metrics", async ({ response }) =>
      sendText(response, 200, await deps.metricsText(), "text/plain; version=0.0.4; charset=utf-8"),
    ),
    get("loopback", "/version", ({ response }) =>
      sendJson(response, 200, { ...deps.version, config_version: deps.config.current.configVersion }),
    ),
    get("loopback", "/config", ({ response }) => sendJson(response, 200, deps.redactedConfig())),
  ];
}

function isLoopback(deps: ConsoleDeps): boolean {
  const { host } = deps.config.current.server.admin.listen;
  return host === "localhost" || host === "::1" || host.startsWith("127.");
}

function listen(server: Server, deps: ConsoleDeps): Promise<void> {
  const { host, port } = deps.config.current.server.admin.listen;
  return new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const hint =
        cause.code === "EADDRINUSE"
          ? `Port ${port} on ${host} is taken: change server.admin.listen or pass --admin-port.`
          : `Cannot listen on ${host}:${port}: ${cause.message}`;
      reject(new SignalboxError("INTERNAL", hint, { cause }));
    });
    server.listen(port, host, resolve);
  });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
