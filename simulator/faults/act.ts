import type { ServerResponse } from "node:http";
import type { CutKind } from "./kinds.ts";

/** Bytes written at once by faults that write a lot. */
const BLOCK = Buffer.alloc(64 * 1024, "x");

/** Writes one SSE line of about `bytes` bytes whose data is valid JSON that says nothing. */
export function writeGiantLine(response: ServerResponse, bytes: number): void {
  response.write('data: {"padding":"');
  for (let left = bytes; left > 0; left -= BLOCK.length) response.write(left < BLOCK.length ? BLOCK.subarray(0, left) : BLOCK);
  response.write('"}\n\n');
}

/** Writes one line that never ends, as fast as the caller reads it. */
export function flood(response: ServerResponse): void {
  const pour = (): void => {
    while (!response.destroyed && response.write(BLOCK));
  };
  response.write("data: ");
  response.on("drain", pour);
  pour();
}

/** A whole JSON body as a fault bends it; undefined when the fault does something else than bend it. */
export function hollowJson(kind: CutKind, body: string, bytes: number): string | undefined {
  if (kind === "malformed") return body.slice(0, -2);
  if (kind === "giant_line") return `{"padding":"${"x".repeat(bytes)}",${body.slice(1)}`;
  return undefined;
}
