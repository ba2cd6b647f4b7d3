import { create } from "@bufbuild/protobuf";
import { ControlStateSchema } from "#gen/signalbox/control/v1/control_service_pb.ts";
import { PriceBookSchema } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { EventBus } from "#libs/bus/index.ts";
import type { Random } from "#libs/clock/index.ts";
import { type Config, createConfigSource, loadConfig } from "#libs/config/index.ts";
import { blankLine } from "#libs/money/index.ts";
import type { ControlPeer, LedgerPeer } from "#libs/peers/index.ts";
import { createMetrics, silentLogger } from "#libs/telemetry/index.ts";
import { createPolicyEngine, type PolicyEngineHost } from "#services/policy-engine/index.ts";
import { SimulatedCloud } from "./cloud.ts";
import { simulatedMonitor } from "./monitor.ts";
import type { PoolBackend, PoolView } from "./pool.ts";
import { type PolicyOptions, signalboxYaml } from "./signalbox-config.ts";

/** How the production modules are set up for a run. */
export interface HostOptions {
  readonly policy: PolicyOptions;
  /** Carries loads and health; shared by the replicas of one run. */
  readonly bus: EventBus;
  readonly random: Random;
  readonly engineId: string;
  /** Whether this replica also runs the health monitor: one per run does. */
  readonly monitor: boolean;
}

/** The production modules of one replica. */
export interface SignalboxHost {
  readonly config: Config;
  readonly engine: PolicyEngineHost;
  start(): Promise<void>;
  stop(): void;
}

/** Builds the same modules a process runs, over virtual time and simulated backends. Throws when the configuration is refused. */
export function signalboxHost(view: PoolView, options: HostOptions): SignalboxHost {
  const loaded = loadConfig(signalboxYaml(view.backends, options.policy), { file: "evaluation.yaml", env: {} });
  if (loaded.problems) throw new Error(loaded.problems.map((problem) => problem.message).join("\n"));
  const { clock } = view;
  const { bus, random, engineId, policy } = options;
  const scrapesFail = (): boolean => policy.scrapesFail?.(clock.monotonicMs()) ?? false;
  const config = createConfigSource(loaded.config);
  const engine = createPolicyEngine({
    config,
    clock,
    random,
    bus,
    engineId,
    logger: silentLogger,
    metrics: createMetrics(),
    ledger: pricesOnly(view.backends),
    control: noControl(),
  });
  const monitor = options.monitor ? simulatedMonitor({ view, clock, random, config, bus, scrapesFail }) : undefined;
  return {
    config: loaded.config,
    engine,
    start: async () => {
      await monitor?.module.start();
      await engine.module.start();
    },
    stop: () => {
      void engine.module.stop();
      void monitor?.module.stop();
    },
  };
}

function pricesOnly(backends: readonly PoolBackend[]): LedgerPeer {
  const lines = backends.map(({ name, server, rentUsd }) => {
    if (!(server instanceof SimulatedCloud)) return { ...blankLine(name), perHourNano: BigInt(Math.round(rentUsd * 1e9)) };
    const { inputUsd, outputUsd } = server.profile;
    return { ...blankLine(name), inputPico: BigInt(Math.round(inputUsd * 1e6)), outputPico: BigInt(Math.round(outputUsd * 1e6)) };
  });
  const book = create(PriceBookSchema, { version: "evaluation", onUnknown: "allow_unpriced", lines });
  return only<LedgerPeer>({ priceBook: () => Promise.resolve(book) });
}

function noControl(): ControlPeer {
  const state = create(ControlStateSchema, { revision: 1n });
  return only<ControlPeer>({ report: ({ appliedRevision }) => Promise.resolve(appliedRevision === 1n ? undefined : state) });
}

/** A peer of which the engine uses these methods; any other use is a mistake and throws. */
function only<T extends object>(parts: Partial<T>): T {
  return new Proxy(parts, {
    get: (target, key) => {
      if (key in target) return target[key as keyof T];
      throw new Error(`the evaluation has no '${String(key)}'`);
    },
  }) as T;
}
