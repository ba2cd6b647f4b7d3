import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Agent, type Dispatcher } from "undici";

/** Connections to the upstream at most. */
const CONNECTIONS = 1024;

/** Header of a request that names the upstream's port, so that one floor serves both ports. */
const PORT_HEADER = "x-bench-upstream-port";

/**
 * The floor every gateway is held against: node:http in front, undici `dispatch` behind, bytes passed through, nothing looked at.
 * `node bench/proxy.ts UPSTREAM_PORT` prints `{"port":N}`.
 */
function proxy(agent: Agent, defaultPort: string, request: IncomingMessage, response: ServerResponse): void {
  const port = request.headers[PORT_HEADER];
  let abort: (() => void) | undefined;
  response.on("close", () => {
    if (!response.writableFinished) abort?.();
  });
  const handler: Dispatcher.DispatchHandler = {
    onRequestStart: (controller) => {
      abort = () => controller.abort(new Error("client gone"));
    },
    onResponseStart: (controller, status, headers) => {
      const length = headers["content-length"];
      response.writeHead(status, {
        "content-type": String(headers["content-type"]),
        ...(length === undefined ? {} : { "content-length": String(length) }),
      });
      response.on("drain", () => controller.resume());
    },
    onResponseData: (controller, chunk) => {
      if (!response.write(chunk)) controller.pause();
    },
    onResponseEnd: () => void response.end(),
    onResponseError: () => {
      if (!response.headersSent) response.writeHead(502);
      response.end();
    },
  };
  agent.dispatch(
    {
      origin: `http://127.0.0.1:${typeof port === "string" ? port : defaultPort}`,
      path: request.url ?? "/",
      method: "POST",
      headers: { "content-type": "application/json", "content-length": request.headers["content-length"] ?? "0" },
      body: request,
    },
    handler,
  );
}

const upstreamPort = process.argv[2];
if (upstreamPort === undefined) {
  process.stderr.write("usage: node bench/proxy.ts UPSTREAM_PORT\n");
  process.exit(2);
}
const agent = new Agent({ connections: CONNECTIONS, pipelining: 1 });
const server = createServer((request, response) => proxy(agent, upstreamPort, request, response));
server.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`);
});
