import { Agent, buildConnector } from "undici";
import { UpstreamCall, type UpstreamListener } from "./call.ts";
import { REUSED } from "./failure.ts";

/** Below the 5 s after which node:http, gunicorn and uvicorn close an idle connection; a longer announced time is obeyed. */
const KEEP_ALIVE_MS = 4_000;

/** An announced keep-alive is believed up to this. */
const KEEP_ALIVE_MAX_MS = 60_000;

/** Taken off an announced keep-alive for the way: the connection is given up before the other side does. */
const KEEP_ALIVE_MARGIN_MS = 1_000;

/** All headers of an answer, bytes. */
const HEADERS_MAX_BYTES = 64 * 1024;

/** A connection that is not there by then is not coming; attempts carry their own, shorter ceilings. */
const CONNECT_TIMEOUT_MS = 10_000;

/** One HTTP request to a provider. */
export interface UpstreamRequest {
  /** Scheme, host and port: connections are shared by origin, credentials belong to one. */
  readonly origin: string;
  /** Path and query. */
  readonly path: string;
  /** Names and values in turn. */
  readonly headers: string[];
  readonly body: Uint8Array;
}

/** Makes calls. */
export interface Transport {
  /** Starts a POST. The listener may be called before this returns. */
  start(request: UpstreamRequest, listener: UpstreamListener): UpstreamCall;
  /** Closes every connection; calls in progress fail. */
  close(): Promise<void>;
}

/**
 * HTTP/1.1 without redirects, proxies, retries or decompression, over kept-alive connections by origin. HTTP/2 is off, because
 * pausing one answer must pause one socket.
 */
export function createTransport(): Transport {
  const agent = new Agent({
    allowH2: false,
    pipelining: 1,
    keepAliveTimeout: KEEP_ALIVE_MS,
    keepAliveMaxTimeout: KEEP_ALIVE_MAX_MS,
    keepAliveTimeoutThreshold: KEEP_ALIVE_MARGIN_MS,
    maxHeaderSize: HEADERS_MAX_BYTES,
    headersTimeout: 0,
    bodyTimeout: 0,
    connect: markingConnector(),
  });
  return {
    start: (request, listener) => {
      const call = new UpstreamCall(listener);
      agent.dispatch(
        { origin: request.origin, path: request.path, method: "POST", headers: request.headers, body: request.body, idempotent: false },
        call,
      );
      return call;
    },
    close: () => agent.destroy(),
  };
}

/** Marks the error of a socket that had carried an answer before, so that a keep-alive race can be told from a crash. */
function markingConnector(): buildConnector.connector {
  const connect = buildConnector({ timeout: CONNECT_TIMEOUT_MS });
  return (options, callback) => {
    connect(options, (...args) => {
      // Absent when the connection failed.
      const socket = args[1] ?? undefined;
      if (socket !== undefined) {
        socket.setNoDelay(true);
        socket.on("error", (error: Error & { [REUSED]?: boolean }) => {
          error[REUSED] = socket.bytesRead > 0;
        });
      }
      callback(...args);
    });
  };
}
