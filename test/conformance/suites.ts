import { after, before } from "node:test";
import { startGateway, type Gateway, type TopologyName } from "../support/gateway.ts";
import { simulatedBackend, startSimulation, type Simulation } from "../support/simulated.ts";
import { aiSdkContract } from "./ai-sdk.contract.ts";
import { grpcContract } from "./grpc.contract.ts";
import { openaiSdkContract } from "./openai-sdk.contract.ts";
import type { Target } from "./targets.ts";

/** Runs every client's contract over one topology, against an OpenAI and an Anthropic upstream. */
export function conformanceSuite(topology: TopologyName): void {
  let gateway: Gateway;
  let simulation: Simulation;

  before(async () => {
    // Tokens come one by one, so that an abort finds the backend at work.
    const speed = { kind: "cloud", ttftMs: 5, ttftSigma: 0, itlMs: 1, itlSigma: 0 } as const;
    simulation = await startSimulation([
      simulatedBackend("up-openai", "openai", 1, speed),
      simulatedBackend("up-anthropic", "anthropic", 1, speed),
    ]);
    const models = { chat: { candidates: ["up-openai", "up-anthropic"] } };
    gateway = await startGateway({ topology, config: { backends: simulation.backends, models } });
  });

  after(async () => {
    await gateway?.stop();
    await simulation?.stop();
  });

  const target = (backend: string, dialect: Target["dialect"]) => (): Target => ({
    api: gateway.api,
    grpc: gateway.grpc,
    model: backend,
    backend,
    dialect,
    left: () => left(simulation, backend),
  });
  for (const dialect of ["openai", "anthropic"] as const) {
    const backend = `up-${dialect}`;
    openaiSdkContract(`openai SDK, ${topology}, ${dialect} upstream`, target(backend, dialect));
    aiSdkContract(`ai SDK, ${topology}, ${dialect} upstream`, target(backend, dialect));
    grpcContract(`grpc-js, ${topology}, ${dialect} upstream`, target(backend, dialect));
  }
}

/** Resolves when the backend computes nothing and its last call was left before its end; rejects after 60 s, or when that call ended. */
async function left({ simulator }: Simulation, backend: string): Promise<void> {
  const until = Date.now() + 60_000;
  for (;;) {
    const { running, waiting } = simulator.load(backend);
    if (running + waiting === 0) break;
    if (Date.now() > until) throw new Error(`${backend} still computes ${running} and holds ${waiting}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  if (simulator.invoice().findLast((line) => line.backend === backend)?.canceled !== true) throw new Error(`${backend} went on to the end`);
}
