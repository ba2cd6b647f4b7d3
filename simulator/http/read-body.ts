import type { IncomingMessage } from "node:http";

/** Largest request body: what a vision request with several images needs, and twice what the gateway lets through. */
const BODY_MAX_BYTES = 64 * 1024 * 1024;

/** Reads a request body. `done` gets undefined when it is too large; nothing is called when the caller leaves first. */
export function readBody(request: IncomingMessage, done: (body: Buffer | undefined) => void): void {
  let first: Buffer | undefined;
  let rest: Buffer[] | undefined;
  let size = 0;
  request.on("data", (chunk: Buffer) => {
    size += chunk.length;
    if (size > BODY_MAX_BYTES) return;
    if (!first) first = chunk;
    else (rest ??= [first]).push(chunk);
  });
  request.on("end", () => {
    if (size > BODY_MAX_BYTES) done(undefined);
    else done(rest ? Buffer.concat(rest) : (first ?? Buffer.alloc(0)));
  });
}
