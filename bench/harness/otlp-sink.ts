import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";

/** A collector that takes every span and forgets it, so that tracing costs the gateway what it costs. */
export function startOtlpSink(): Promise<{ readonly endpoint: string; readonly server: Server }> {
  const server = createServer((request, response) => {
    request.resume();
    request.on("end", () => response.writeHead(200, { "content-type": "application/x-protobuf" }).end());
  });
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve({ endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server }));
  });
}
