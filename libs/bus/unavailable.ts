import { SignalboxError } from "#libs/errors/index.ts";

/** Code of everything that fails because the bus cannot be reached. */
export const BUS_UNAVAILABLE = "bus_unavailable";

/** The error of a durable publish or a key-value call while the bus is away. */
export function busUnavailable(what: string, cause?: unknown): SignalboxError {
  return new SignalboxError("INTERNAL", `bus: ${what}`, { code: BUS_UNAVAILABLE, ...(cause === undefined ? {} : { cause }) });
}
