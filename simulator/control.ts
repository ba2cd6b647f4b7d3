import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { SignalboxError } from "#libs/errors/index.ts";
import { parseFaultOrder } from "./faults/parse.ts";
import { readBody } from "./http/read-body.ts";
import type { Simulator } from "./simulator.ts";

/** The simulator's own listener. */
export interface ControlListener {
  readonly port: number;
  stop(): Promise<void>;
}

/**
 * Serves `GET /invoice`, `GET /calls`, `GET /faults`, `POST /faults {backend, kind, for_ms?, p?, ...}`, `DELETE /faults[?backend=NAME]`
 * and `DELETE /invoice` on 127.0.0.1. Rejects when the port is taken.
 */
export function startControl(simulator: Simulator, port: number): Promise<ControlListener> {
  const server: Server = createServer((request, response) => readBody(request, (body) => route(simulator, request, body, response)));
  return new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      reject(
        new SignalboxError("INTERNAL", `simulator control cannot listen on 127.0.0.1:${port}: ${cause.code ?? cause.message}`, { cause }),
      );
    });
    server.listen(port, "127.0.0.1", () => {
      resolve({
        port: (server.address() as AddressInfo).port,
        stop: () =>
          new Promise((done) => {
            server.close(() => done());
            server.closeAllConnections();
          }),
      });
    });
  });
}

function route(simulator: Simulator, request: IncomingMessage, body: Buffer | undefined, response: ServerResponse): void {
  const url = new URL(request.url ?? "/", "http://simulator");
  const send = (status: number, value: unknown): void => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(value));
  };
  const refuse = (status: number, message: string): void =>
    send(status, { error: { message, type: "invalid_request_error", param: null, code: null } });
  const key = `${request.method ?? ""} ${url.pathname}`;
  try {
    switch (key) {
      case "GET /invoice":
        return send(200, simulator.invoice());
      case "DELETE /invoice":
        simulator.forget();
        return send(200, {});
      case "GET /calls":
        return send(200, simulator.calls());
      case "GET /faults":
        return send(200, Object.fromEntries(simulator.faults()));
      case "DELETE /faults":
        simulator.clear(url.searchParams.get("backend") ?? undefined);
        return send(200, {});
      case "POST /faults": {
        const order = parseFaultOrder(parse(body));
        if (typeof order === "string") return refuse(400, order);
        simulator.fault(order.backend, order.kind, order.options);
        return send(200, { backend: order.backend, kind: order.kind });
      }
      default:
        return refuse(404, `no such route: ${key}`);
    }
  } catch (error) {
    refuse(error instanceof SignalboxError ? error.httpStatus : 500, error instanceof Error ? error.message : String(error));
  }
}

function parse(body: Buffer | undefined): unknown {
  try {
    return JSON.parse(body?.toString() ?? "");
  } catch {
    return undefined;
  }
}
