import { parse, stringify } from "yaml";

/** Ports of one process of the mesh. */
export interface ProcessPorts {
  readonly api: number;
  readonly admin: number;
  readonly grpc: number;
  readonly mesh: number;
}

/** One process of the mesh. */
export interface MeshProcess {
  /** Name, unique in the mesh: `ingress-1`, `adapter-openai-2`. */
  readonly name: string;
  /** What `--role` says. */
  readonly role: string;
  readonly ports: ProcessPorts;
}

/** How many of what. */
export interface MeshScale {
  readonly ingress: number;
  readonly policyEngine: number;
  readonly healthMonitor: number;
  readonly costLedger: number;
  readonly adapterOpenai: number;
  readonly adapterAnthropic: number;
  readonly console: number;
}

/** `npm run mesh`: one of each, and two replicas of one adapter. */
export const DEFAULT_SCALE: MeshScale = {
  ingress: 1,
  policyEngine: 1,
  healthMonitor: 1,
  costLedger: 1,
  adapterOpenai: 2,
  adapterAnthropic: 1,
  console: 1,
};

const ROWS: readonly { readonly key: keyof MeshScale; readonly name: string; readonly role: string }[] = [
  { key: "costLedger", name: "cost-ledger", role: "cost-ledger" },
  { key: "healthMonitor", name: "health-monitor", role: "health-monitor" },
  { key: "adapterOpenai", name: "adapter-openai", role: "provider-adapters:openai" },
  { key: "adapterAnthropic", name: "adapter-anthropic", role: "provider-adapters:anthropic" },
  { key: "policyEngine", name: "policy-engine", role: "policy-engine" },
  { key: "ingress", name: "ingress", role: "ingress" },
  { key: "console", name: "console", role: "console" },
];

/** Processes in a mesh of this scale; ports come from `next`, four per process. */
export function layoutMesh(scale: MeshScale, next: (name: string) => ProcessPorts): MeshProcess[] {
  return ROWS.flatMap(({ key, name, role }) =>
    Array.from({ length: scale[key] }, (_, index) => {
      const own = scale[key] === 1 ? name : `${name}-${index + 1}`;
      return { name: own, role, ports: next(own) };
    }),
  );
}

/** The configuration every process of the mesh reads: the given one with the mesh, the store and the listeners of this machine put in. */
export function meshConfigText(base: string, processes: readonly MeshProcess[]): string {
  const config = parse(base) as Record<string, Record<string, unknown>>;
  const peersOf = (role: string): string[] =>
    processes.filter((process) => process.role.split(":")[0] === role).map(({ ports }) => `127.0.0.1:${ports.mesh}`);
  const { outbox, ...ledger } = (config["ledger"] ?? {}) as { outbox?: Record<string, unknown> };
  const { dir: _dir, ...outboxRest } = outbox ?? {};
  return stringify({
    ...config,
    ledger: { ...ledger, store: "${env:DATABASE_URL}", ...(outbox === undefined ? {} : { outbox: outboxRest }) },
    mesh: {
      ...config["mesh"],
      listen: "127.0.0.1:4103",
      nats: { url: "${env:NATS_URL}" },
      peers: Object.fromEntries(
        ["policy-engine", "health-monitor", "cost-ledger", "provider-adapters"].map((role) => [role, peersOf(role)]),
      ),
    },
  });
}
