/** What a parser calls, in this order: head, body*, end. */
export interface ResponseHandler {
  head(status: number, isEventStream: boolean): void;
  body(bytes: Buffer): void;
  /** The response is complete. `keepAlive` = the connection may carry another. */
  end(keepAlive: boolean): void;
  /** The bytes are no HTTP response; the connection is of no use any more. */
  malformed(problem: string): void;
}

/** Longest head or chunk-size line, bytes. */
const LINE_MAX_BYTES = 64 * 1024;

const NOTHING = Buffer.alloc(0);

type State = "head" | "length" | "chunk-size" | "chunk-data" | "chunk-end" | "trailers" | "until-close" | "broken";

/**
 * Parses HTTP/1.1 responses from bytes cut anywhere: content-length, chunked, or until the connection closes. Only what a load
 * generator must know is looked at, so that it never is the bottleneck.
 */
export class ResponseParser {
  readonly #handler: ResponseHandler;
  #state: State = "head";
  #pending: Buffer = NOTHING;
  /** Bytes of body (or of the chunk) still to come. */
  #left = 0;
  #keepAlive = true;

  constructor(handler: ResponseHandler) {
    this.#handler = handler;
  }

  push(chunk: Buffer): void {
    let bytes = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    this.#pending = NOTHING;
    while (bytes.length > 0) {
      const used = this.#step(bytes);
      if (used < 0) {
        this.#pending = bytes;
        if (bytes.length > LINE_MAX_BYTES) this.#break("a line is too long");
        return;
      }
      bytes = bytes.subarray(used);
    }
  }

  /** The connection was closed by the other side. Ends a body without length; returns whether a response was cut. */
  close(): boolean {
    if (this.#state === "until-close") {
      this.#state = "head";
      this.#handler.end(false);
      return false;
    }
    return this.#state !== "broken" && (this.#state !== "head" || this.#pending.length > 0);
  }

  /** Bytes used, or -1 when more are needed first. */
  #step(bytes: Buffer): number {
    switch (this.#state) {
      case "head":
        return this.#head(bytes);
      case "length":
        return this.#data(bytes, "head");
      case "chunk-data":
        return this.#data(bytes, "chunk-end");
      case "chunk-size":
        return this.#chunkSize(bytes);
      case "chunk-end":
        if (bytes.length < 2) return -1;
        this.#state = "chunk-size";
        return 2;
      case "trailers":
        return this.#trailers(bytes);
      case "until-close":
        this.#handler.body(bytes);
        return bytes.length;
      case "broken":
        return bytes.length;
    }
  }

  #head(bytes: Buffer): number {
    const end = bytes.indexOf("\r\n\r\n");
    if (end < 0) return -1;
    const text = bytes.toString("latin1", 0, end).toLowerCase();
    const status = Number(text.slice(9, 12));
    if (!text.startsWith("http/1.") || !(status >= 100)) return this.#break("no HTTP response");
    if (status < 200) return end + 4;
    this.#keepAlive = !text.includes("\r\nconnection: close");
    this.#handler.head(status, text.includes("\r\ncontent-type: text/event-stream"));
    const length = valueOf(text, "\r\ncontent-length:");
    if (text.includes("\r\ntransfer-encoding: chunked")) this.#state = "chunk-size";
    else if (length !== undefined) this.#expect(Number(length));
    else if (status === 204 || status === 304) this.#end();
    else this.#state = "until-close";
    return end + 4;
  }

  #expect(length: number): void {
    if (!Number.isInteger(length) || length < 0) {
      this.#break("a bad content-length");
      return;
    }
    this.#left = length;
    if (length === 0) this.#end();
    else this.#state = "length";
  }

  #data(bytes: Buffer, next: "head" | "chunk-end"): number {
    const used = Math.min(this.#left, bytes.length);
    this.#handler.body(used === bytes.length ? bytes : bytes.subarray(0, used));
    this.#left -= used;
    if (this.#left > 0) return used;
    if (next === "head") this.#end();
    else this.#state = next;
    return used;
  }

  #chunkSize(bytes: Buffer): number {
    const end = bytes.indexOf("\r\n");
    if (end < 0) return -1;
    const size = Number.parseInt(bytes.toString("latin1", 0, end), 16);
    if (!(size >= 0)) return this.#break("a bad chunk size");
    this.#left = size;
    this.#state = size === 0 ? "trailers" : "chunk-data";
    return end + 2;
  }

  #trailers(bytes: Buffer): number {
    const end = bytes.indexOf("\r\n");
    if (end < 0) return -1;
    if (end === 0) this.#end();
    return end + 2;
  }

  #end(): void {
    this.#state = "head";
    this.#handler.end(this.#keepAlive);
  }

  #break(problem: string): number {
    this.#state = "broken";
    this.#pending = NOTHING;
    this.#handler.malformed(problem);
    return 0;
  }
}

/** Value of a header in a lower-cased head, trimmed. */
function valueOf(head: string, name: string): string | undefined {
  const at = head.indexOf(name);
  if (at < 0) return undefined;
  const end = head.indexOf("\r\n", at + 2);
  return head.slice(at + name.length, end < 0 ? undefined : end).trim();
}
