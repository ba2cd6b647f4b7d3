import type { ServerResponse } from "node:http";
import type { FaultPlan } from "../faults/plan.ts";

/** A whole answer, ready to be sent. `headers` is flat: name, value, name, value. */
export interface Reply {
  readonly status: number;
  readonly headers: readonly string[];
  readonly contentType: string;
  readonly body: string;
}

/** A JSON answer. */
export function jsonReply(status: number, body: string, headers: readonly string[] = []): Reply {
  return { status, headers, contentType: "application/json", body };
}

/** Sends a whole answer, with the headers a fault adds. */
export function send(response: ServerResponse, reply: Reply, plan: FaultPlan): void {
  const headers = [...reply.headers, "content-type", reply.contentType, "content-length", String(Buffer.byteLength(reply.body))];
  addFiller(headers, plan);
  response.writeHead(reply.status, headers);
  response.end(reply.body);
}

/** Adds the headers of the `many_headers` fault. */
export function addFiller(headers: string[], plan: FaultPlan): void {
  for (let index = 0; index < plan.extraHeaders; index++) headers.push(`x-filler-${index}`, "x".repeat(32));
}
