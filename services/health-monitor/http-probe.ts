import { Agent as HttpAgent, get as httpGet, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, get as httpsGet } from "node:https";
import { connect } from "node:net";
import type { ProbeAnswer, ProbePort } from "./probe.ts";

/** Most bytes read of an answer: an engine's metrics with a histogram per model stay far below. */
const BODY_MAX_BYTES = 4 * 1024 * 1024;

/** Kept connections per target: one scrape and one liveness call. */
const SOCKETS_PER_TARGET = 2;

/** Probes over node:http and node:https with kept connections. */
export function createHttpProbe(): ProbePort {
  const options = { keepAlive: true, maxSockets: SOCKETS_PER_TARGET, scheduling: "lifo" } as const;
  const http = new HttpAgent(options);
  const https = new HttpsAgent(options);
  return {
    get: (url, timeoutMs) => {
      const signal = AbortSignal.timeout(timeoutMs);
      const headers = { "user-agent": "signalbox-health", accept: "*/*" };
      return new Promise((resolve, reject) => {
        const onAnswer = (answer: IncomingMessage): void => read(answer, resolve, reject);
        const call = url.startsWith("https:")
          ? httpsGet(url, { agent: https, signal, headers }, onAnswer)
          : httpGet(url, { agent: http, signal, headers }, onAnswer);
        call.on("error", reject);
      });
    },
    connect: (host, port, timeoutMs) =>
      new Promise((resolve, reject) => {
        const socket = connect({ host, port, signal: AbortSignal.timeout(timeoutMs) });
        socket.once("connect", () => {
          socket.destroy();
          resolve();
        });
        socket.once("error", (cause) => {
          socket.destroy();
          reject(cause);
        });
      }),
    close: () => {
      http.destroy();
      https.destroy();
    },
  };
}

function read(answer: IncomingMessage, resolve: (answer: ProbeAnswer) => void, reject: (cause: Error) => void): void {
  const parts: Buffer[] = [];
  let bytes = 0;
  answer.on("data", (part: Buffer) => {
    bytes += part.length;
    if (bytes > BODY_MAX_BYTES) answer.destroy(new Error("the answer is too long"));
    else parts.push(part);
  });
  answer.on("end", () => resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(parts).toString("utf8") }));
  answer.on("error", reject);
}
