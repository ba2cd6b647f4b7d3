import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Clock } from "#libs/clock/index.ts";
import type { ServerConfig } from "#libs/config/model.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { sendError, writeErrorHead } from "./http-reply.ts";
import { CONNECTION_IDLE_MS, LINGER_MS, RESPONSE_QUEUE_BYTES, SLOW_CHECK_MS, TCP_KEEP_ALIVE_MS, UNREAD_DRAIN_BYTES } from "./limits.ts";
import { errorBody } from "./openai/errors.ts";

/** Handles one request whose head is sound. `continues` = the client waits for `100 Continue`. */
export type RequestHandler = (request: IncomingMessage, response: ServerResponse, continues: boolean) => void;

/** Header fields a request may have; more is somebody probing. */
const HEADERS_MAX = 200;

/**
 * The API's HTTP/1.1 server: node's strict parser, time limits on heads and bodies, bounded heads, no upgrades, and an
 * OpenAI-shaped body on every refusal, even for bytes that are no request.
 */
export class HttpServer {
  readonly #server: Server;
  readonly #config: ServerConfig["api"];
  readonly #clock: Clock;
  readonly #nextId: () => string;
  /** Response in progress per connection, so that a parse error behind it never writes into its bytes. */
  readonly #responses = new WeakMap<Socket, ServerResponse>();

  constructor(config: ServerConfig["api"], clock: Clock, nextId: () => string, handler: RequestHandler) {
    this.#config = config;
    this.#clock = clock;
    this.#nextId = nextId;
    const handle = (request: IncomingMessage, response: ServerResponse, continues: boolean): void => {
      this.#responses.set(request.socket, response);
      const error = headError(request);
      if (error === undefined) handler(request, response, continues);
      else this.refuse(request, response, error, nextId(), ["connection", "close"]);
    };
    this.#server = createServer(
      {
        insecureHTTPParser: false,
        // Checked in headError, which answers with a body.
        requireHostHeader: false,
        maxHeaderSize: config.headersMaxBytes,
        headersTimeout: config.headerTimeoutMs,
        requestTimeout: config.headerTimeoutMs + config.bodyTimeoutMs,
        connectionsCheckingInterval: SLOW_CHECK_MS,
        keepAliveTimeout: CONNECTION_IDLE_MS,
        keepAlive: true,
        keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
        noDelay: true,
        highWaterMark: RESPONSE_QUEUE_BYTES,
      },
      (request, response) => handle(request, response, false),
    );
    this.#server.maxHeadersCount = HEADERS_MAX;
    this.#server.maxConnections = config.connectionsMax;
    this.#server.on("checkContinue", (request: IncomingMessage, response: ServerResponse) => handle(request, response, true));
    this.#server.on("checkExpectation", (request: IncomingMessage, response: ServerResponse) => {
      const error = new SignalboxError("REQUEST_MALFORMED", "Only 'Expect: 100-continue' is understood.", {
        param: "expect",
        httpStatus: 417,
      });
      this.refuse(request, response, error, nextId(), []);
    });
    this.#server.on("connect", (_request: IncomingMessage, socket: Socket) => {
      this.#raw(socket, new SignalboxError("METHOD_NOT_ALLOWED", "CONNECT is not supported."));
    });
    this.#server.on("clientError", (error: NodeJS.ErrnoException, socket: Socket) => this.#parseError(error, socket));
  }

  /** Binds. Rejects with an error that names the setting when the port is taken or the address is not ours. */
  listen(): Promise<void> {
    const { host, port } = this.#config.listen;
    return new Promise((resolve, reject) => {
      this.#server.once("error", (cause: NodeJS.ErrnoException) => {
        const why = cause.code === "EADDRINUSE" ? "the port is in use" : (cause.code ?? cause.message);
        const text = `cannot listen on ${host}:${port}: ${why} (setting server.api.listen, or --port)`;
        reject(new SignalboxError("INTERNAL", text, { code: "listen_failed", cause }));
      });
      this.#server.listen(port, host, () => resolve());
    });
  }

  /** Where it listens. */
  address(): { readonly host: string; readonly port: number } {
    const address = this.#server.address() as AddressInfo | null;
    return { host: address?.address ?? this.#config.listen.host, port: address?.port ?? this.#config.listen.port };
  }

  /** Takes no new connections and closes idle ones; busy ones go on. */
  closeListener(): void {
    this.#server.close();
    this.#server.closeIdleConnections();
  }

  /** Closes everything. */
  closeAll(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  /**
   * Answers with an error, whether or not the request's body was read. A short rest is drained; a long or endless one
   * costs the connection, which is closed only after the sender had time to read the answer.
   */
  refuse(request: IncomingMessage, response: ServerResponse, error: SignalboxError, requestId: string, headers: readonly string[]): void {
    if (response.headersSent) return;
    const all = ["x-request-id", requestId, ...headers];
    const length = Number(request.headers["content-length"] ?? (request.headers["transfer-encoding"] === undefined ? 0 : Infinity));
    if (request.complete || length <= UNREAD_DRAIN_BYTES) return sendError(response, error, requestId, all);
    const body = writeErrorHead(response, error, requestId, headers.includes("close") ? all : [...all, "connection", "close"]);
    response.write(body);
    request.on("error", () => {});
    request.resume();
    const timer = this.#clock.after(LINGER_MS, () => response.end(() => request.socket.destroy()));
    request.once("close", () => timer.cancel());
  }

  #parseError(error: NodeJS.ErrnoException, socket: Socket): void {
    const response = this.#responses.get(socket);
    const isAnswering = response !== undefined && response.headersSent && !response.writableFinished;
    if (error.code === "ECONNRESET" || !socket.writable) {
      socket.destroy();
      return;
    }
    // What was written already is still good: it leaves before the connection goes.
    if (isAnswering) return socket.destroySoon();
    this.#raw(socket, parseErrorOf(error));
  }

  #raw(socket: Socket, error: SignalboxError): void {
    const requestId = this.#nextId();
    const body = errorBody(error, requestId);
    const status = error.httpStatus;
    socket.end(
      `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Error"}\r\nconnection: close\r\ncontent-type: application/json\r\n` +
        `content-length: ${Buffer.byteLength(body)}\r\nx-request-id: ${requestId}\r\nx-should-retry: ${error.row.retry}\r\n\r\n${body}`,
      () => socket.destroy(),
    );
  }
}

function parseErrorOf(error: NodeJS.ErrnoException): SignalboxError {
  switch (error.code ?? "") {
    case "HPE_HEADER_OVERFLOW":
      return new SignalboxError("HEADERS_TOO_LARGE", "The request's header fields are too large.");
    case "HPE_CHUNK_EXTENSIONS_OVERFLOW":
      return new SignalboxError("REQUEST_TOO_LARGE", "The request's chunk extensions are too large.");
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return new SignalboxError("REQUEST_TIMEOUT", "The request did not arrive in time.");
    default:
      return new SignalboxError("REQUEST_MALFORMED", "The bytes received are not a valid HTTP/1.1 request.", { code: "invalid_request" });
  }
}

/** What node's parser lets pass and a proxy must not: hosts missing or doubled, and framing that two readers may read differently. */
function headError(request: IncomingMessage): SignalboxError | undefined {
  let hosts = 0;
  const { rawHeaders } = request;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!;
    if (name.length === 4 && name.toLowerCase() === "host") hosts++;
  }
  const isOld = request.httpVersion !== "1.1";
  if (isOld && request.httpVersion !== "1.0") return malformed("Only HTTP/1.1 and HTTP/1.0 are understood.");
  if (hosts > 1 || (hosts === 0 && !isOld)) return malformed("The request must have exactly one Host header.");
  if (isOld && request.headers["transfer-encoding"] !== undefined) return malformed("Transfer-Encoding needs HTTP/1.1.");
  return undefined;
}

function malformed(message: string): SignalboxError {
  return new SignalboxError("REQUEST_MALFORMED", message, { code: "invalid_request" });
}
