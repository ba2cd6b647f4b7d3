import { SignalboxError } from "#libs/errors/index.ts";
import type { ControlPeer } from "#libs/peers/index.ts";
import type { ConsoleDeps } from "./deps.ts";

/** The control peer, or a 503 that says where to ask. */
export function controlOf(deps: ConsoleDeps): ControlPeer {
  if (deps.control !== undefined) return deps.control;
  throw new SignalboxError("NO_BACKEND", "This process does not reach the cost-ledger; ask the admin port of one that does.", {
    code: "peer_unavailable",
  });
}
