import type { ServiceModule } from "#libs/lifecycle/index.ts";
import type { RpcService } from "#libs/rpc/index.ts";
import { controlRpc, createCostLedger, ledgerRpc } from "#services/cost-ledger/index.ts";
import { createHealthMonitor, createHttpProbe, healthRpc } from "#services/health-monitor/index.ts";
import { watchLoopLag } from "#libs/clock/index.ts";
import { createIngress, inferenceRpc } from "#services/ingress/index.ts";
import { createPolicyEngine, policyRpc } from "#services/policy-engine/index.ts";
import { adapterRpc, createProviderAdapters } from "#services/provider-adapters/index.ts";
import { advertisedAddress } from "./advertise.ts";
import type { ProcessContext } from "./context.ts";
import { stateFile } from "./data-dir.ts";
import { createOutbox } from "./outbox.ts";
import { openRecords } from "./records.ts";
import type { NearHosts } from "./near.ts";
import type { Role, RoleChoice } from "./roles.ts";
import type { Topology } from "./topology.ts";

/** A module ready to start, and the services it offers to others. */
export interface LoadedModule {
  readonly module: ServiceModule;
  /** Parts that start before it and stop after it. */
  readonly parts?: readonly ServiceModule[];
  readonly services: readonly RpcService[];
}

/** Makes one role's module and notes its host in `near`. */
type Loader = (context: ProcessContext, topology: Topology, near: NearHosts, choice: RoleChoice) => Promise<LoadedModule> | LoadedModule;

/** Every service but the console, in the order they start: each row may need those above it. Drained in reverse. */
export const MODULES: readonly { readonly role: Role; readonly load: Loader }[] = [
  { role: "cost-ledger", load: loadCostLedger },
  { role: "health-monitor", load: loadHealthMonitor },
  { role: "provider-adapters", load: loadProviderAdapters },
  { role: "policy-engine", load: loadPolicyEngine },
  { role: "ingress", load: loadIngress },
];

function loadCostLedger(context: ProcessContext, _topology: Topology, near: NearHosts): LoadedModule {
  const host = createCostLedger(context);
  near.ledger = host.ledger;
  near.control = host.control;
  return { module: host.module, services: [ledgerRpc(host), controlRpc(host)] };
}

function loadHealthMonitor(context: ProcessContext, _topology: Topology, near: NearHosts): LoadedModule {
  const host = createHealthMonitor({ ...context, probe: createHttpProbe(), monitorId: context.instance });
  near.health = host;
  return { module: host.module, services: [healthRpc(host)] };
}

function loadProviderAdapters(context: ProcessContext, _topology: Topology, near: NearHosts, choice: RoleChoice): LoadedModule {
  const host = createProviderAdapters({
    ...context,
    replica: context.instance,
    address: advertisedAddress(context.config.current.mesh),
    ...(choice.only === undefined ? {} : { only: choice.only }),
  });
  near.adapters = host;
  return { module: host.module, services: [adapterRpc(host)] };
}

function loadPolicyEngine(context: ProcessContext, topology: Topology, near: NearHosts): LoadedModule {
  const records = openRecords(context);
  const host = createPolicyEngine({
    ...context,
    ledger: topology.ledger(),
    control: topology.control(),
    engineId: context.instance,
    ...(records === undefined ? {} : { records: records.records }),
  });
  near.policy = host;
  return { module: host.module, parts: records === undefined ? [] : [records.module], services: [policyRpc(host)] };
}

function loadIngress(context: ProcessContext, topology: Topology, near: NearHosts): LoadedModule {
  const { outbox, module: part } = createOutbox(context);
  const host = createIngress({
    ...context,
    policy: topology.policy(),
    adapters: topology.adapters(),
    control: topology.control(),
    ledger: topology.ledger(),
    outbox,
    stateStore: stateFile(context.dataDir, "control-state.bin"),
    loopLag: context.loopLag ?? watchLoopLag(context.clock),
    ingressId: context.instance,
    hasPeers: context.isMesh,
  });
  near.ingress = host;
  return { module: host.module, parts: [part], services: [inferenceRpc(host)] };
}
