import type { FaultOptions } from "../faults/kinds.ts";

/** The header that says when to come back, flat, in the form the fault asks for; empty = none. */
export function retryAfterHeaders(options: FaultOptions, nowMs: number): string[] {
  const seconds = options.retryAfterS ?? 1;
  switch (options.retryAfter ?? "seconds") {
    case "seconds":
      return ["retry-after", String(seconds)];
    case "date":
      return ["retry-after", new Date(nowMs + seconds * 1000).toUTCString()];
    case "ms":
      return ["retry-after-ms", String(Math.round(seconds * 1000))];
    case "absent":
      return [];
  }
}
