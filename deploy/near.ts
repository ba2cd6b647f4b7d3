import type { AdapterHost, ControlPeer, HealthPeer, LedgerPeer, PolicyHost } from "#libs/peers/index.ts";
import type { InferenceHost } from "#services/ingress/index.ts";

/** The hosts that live in this process, filled as its modules are made. */
export interface NearHosts {
  policy?: PolicyHost;
  adapters?: AdapterHost;
  ledger?: LedgerPeer;
  control?: ControlPeer;
  health?: HealthPeer;
  ingress?: InferenceHost;
}
