import type { AdapterPeer, ControlPeer, ExplainPeer, HealthPeer, LedgerPeer, PolicyPeer } from "#libs/peers/index.ts";
import {
  createAdapterClient,
  createControlClient,
  createExplainClient,
  createHealthClient,
  createLedgerClient,
  createPolicyClient,
} from "#libs/rpc/index.ts";
import type { ProcessContext } from "./context.ts";
import type { NearHosts } from "./near.ts";
import { meshTls } from "./tls.ts";

/** Hands a module its peers: the implementation itself where it lives in this process, a gRPC client where it does not. */
export interface Topology {
  policy(): PolicyPeer;
  adapters(): AdapterPeer;
  ledger(): LedgerPeer;
  control(): ControlPeer;
  health(): HealthPeer;
  explain(): ExplainPeer;
  /** Closes the far clients. */
  close(): Promise<void>;
}

/** The only place that knows near from far. */
export function createTopology(context: ProcessContext, near: NearHosts): Topology {
  const closers: (() => void | Promise<void>)[] = [];
  const base = {
    clock: context.clock,
    random: context.random,
    logger: context.logger,
    metrics: context.metrics,
    ...meshTls(context.config.current.mesh),
  };
  const addressesOf = (role: string): readonly string[] => context.config.current.mesh.peers.get(role) ?? [];
  const far = <T extends { close(): void | Promise<void> }>(client: T): T => {
    closers.push(() => client.close());
    return client;
  };
  const once = <T>(make: () => T): (() => T) => {
    let made: { value: T } | undefined;
    return () => (made ??= { value: make() }).value;
  };
  return {
    policy: once(() => {
      if (!near.policy) {
        const answerTimeoutMs = context.config.current.resilience.timeouts.decideMs;
        return far(createPolicyClient({ ...base, addresses: addressesOf("policy-engine"), ingressId: context.instance, answerTimeoutMs }));
      }
      return far(near.policy.openSession(context.instance));
    }),
    adapters: once(
      () => near.adapters ?? far(createAdapterClient({ ...base, addresses: addressesOf("provider-adapters"), bus: context.bus })),
    ),
    ledger: once(() => near.ledger ?? far(createLedgerClient({ ...base, addresses: addressesOf("cost-ledger") }))),
    control: once(() => near.control ?? far(createControlClient({ ...base, addresses: addressesOf("cost-ledger") }))),
    health: once(() => near.health ?? far(createHealthClient({ ...base, addresses: addressesOf("health-monitor") }))),
    explain: once(() => near.policy ?? far(createExplainClient({ ...base, addresses: addressesOf("policy-engine") }))),
    close: async () => {
      for (const close of closers) await close();
    },
  };
}
