import type { EventBus } from "./bus.ts";
import type { NatsBusDeps } from "./nats-bus.ts";

export type { NatsBusDeps } from "./nats-bus.ts";

/** The bus over NATS. Its client is loaded with the first one: a process that has everything inside needs none. */
export async function openNatsBus(deps: NatsBusDeps): Promise<EventBus> {
  return (await import("./nats-bus.ts")).createNatsBus(deps);
}
