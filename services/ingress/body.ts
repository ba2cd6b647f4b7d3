import type { IncomingMessage } from "node:http";
import { SignalboxError } from "#libs/errors/index.ts";
import { BODIES_TOTAL_MAX_BYTES } from "./limits.ts";

/** Bodies up to this size are copied out of node's 64 KiB read buffers, which they would otherwise keep alive, bytes. */
const COPY_MAX_BYTES = 16 * 1024;

/** Bytes of request bodies held by all requests together. */
export class BodyMemory {
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  take(bytes: number): boolean {
    if (this.#bytes + bytes > BODIES_TOTAL_MAX_BYTES) return false;
    this.#bytes += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#bytes -= bytes;
  }
}

/** Why a body was not read, or its bytes. Exactly one call. */
export type BodyCallback = (error: SignalboxError | undefined, body: Uint8Array) => void;

const NOTHING = new Uint8Array(0);

function tooLarge(maxBytes: number): SignalboxError {
  return new SignalboxError("REQUEST_TOO_LARGE", `The request body is larger than ${maxBytes} bytes.`);
}

/** The error of a request whose body is announced larger than allowed; undefined = may be read. */
export function refusedBySize(request: IncomingMessage, maxBytes: number): SignalboxError | undefined {
  const announced = Number(request.headers["content-length"] ?? 0);
  return announced > maxBytes ? tooLarge(maxBytes) : undefined;
}

/**
 * Reads a request body of at most `maxBytes`. What is read counts against `memory` until the caller gives it back.
 * The callback is not called when the client goes away first.
 */
export function readBody(request: IncomingMessage, maxBytes: number, memory: BodyMemory, callback: BodyCallback): void {
  let pieces: Buffer[] = [];
  let length = 0;
  let open = true;
  const stop = (error: SignalboxError): void => {
    open = false;
    pieces = [];
    memory.give(length);
    callback(error, NOTHING);
  };
  request.on("data", (piece: Buffer) => {
    if (!open) return;
    if (length + piece.length > maxBytes) return stop(tooLarge(maxBytes));
    if (!memory.take(piece.length)) {
      return stop(new SignalboxError("QUEUE_FULL", "The server holds too many request bodies at the moment."));
    }
    length += piece.length;
    pieces.push(piece);
  });
  request.on("end", () => {
    if (!open) return;
    open = false;
    const single = pieces.length === 1 ? pieces[0]! : undefined;
    if (single === undefined) callback(undefined, Buffer.concat(pieces, length));
    else callback(undefined, single.length <= COPY_MAX_BYTES ? Buffer.from(single) : single);
  });
  request.on("close", () => {
    if (!open) return;
    open = false;
    memory.give(length);
  });
  request.on("error", () => {});
}
