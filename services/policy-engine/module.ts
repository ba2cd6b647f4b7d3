import { create } from "@bufbuild/protobuf";
import { RollbackExperimentRequestSchema } from "#gen/signalbox/control/v1/control_service_pb.ts";
import type { EventBus } from "#libs/bus/bus.ts";
import type { Clock, Random, Timer } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import type { ReadinessCheck, ServiceModule } from "#libs/lifecycle/index.ts";
import type { ControlPeer, LedgerPeer, PolicyHost } from "#libs/peers/index.ts";
import type { Logger, Metrics } from "#libs/telemetry/index.ts";
import type { Breach } from "./experiment-watch.ts";
import { LiveEngine } from "./live-engine.ts";
import { Feeds } from "./feeds.ts";
import { LoadExchange } from "./load-exchange.ts";
import { type DecisionRecords, MemoryRecords } from "./records.ts";
import { deny } from "./resolve.ts";
import { Session } from "./sessions.ts";

/** Limits, waiting requests and fallbacks are looked at this often, ms. */
const TICK_MS = 250;

/** Whoever waited too long is told so, and whoever has waited for others long enough goes, within this, ms. */
const EXPIRE_MS = 50;

/** How often a drain looks whether the work is done, ms. */
const DRAIN_POLL_MS = 50;

/** What the policy engine is built from. */
export interface PolicyEngineDeps {
  readonly config: ConfigSource;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly bus: EventBus;
  readonly ledger: LedgerPeer;
  readonly control: ControlPeer;
  /** Names this engine in decisions and load vectors. */
  readonly engineId: string;
  /** Default: a ring in memory. */
  readonly records?: DecisionRecords;
}

/** The engine as its process sees it. */
export type PolicyEngineHost = PolicyHost & { readonly module: ServiceModule };

/** Builds the policy engine. Throws SignalboxError REQUEST_MALFORMED when a rule of the configuration does not compile. */
export function createPolicyEngine(deps: PolicyEngineDeps): PolicyEngineHost {
  const records = deps.records ?? new MemoryRecords();
  const engine: LiveEngine = new LiveEngine({
    ...deps,
    config: deps.config.current,
    records,
    onBreach: (breach) => void stopArm(deps, engine, breach),
  });
  const loads = new LoadExchange(deps.engineId, deps.clock.now(), engine.state);
  const feeds = new Feeds(deps, engine, loads);
  const sessions = new Set<Session>();
  const drainListeners: (() => void)[] = [];
  const timers: Timer[] = [];
  let draining = false;
  let unsubscribe = (): void => {};

  const module: ServiceModule = {
    name: "policy-engine",
    start: async () => {
      unsubscribe = deps.config.onChange((config) => {
        try {
          engine.setConfig(config);
        } catch (cause) {
          deps.logger.error({ err: cause }, "configuration not taken over");
        }
      });
      timers.push(
        deps.clock.every(EXPIRE_MS, () => {
          engine.scheduler.expire(deps.clock.monotonicMs());
          engine.pump();
        }),
      );
      timers.push(deps.clock.every(TICK_MS, () => onTick(engine, sessions)));
      await feeds.start();
      onTick(engine, sessions);
    },
    drain: async (graceMs) => {
      if (!draining) {
        draining = true;
        for (const listener of drainListeners) listener();
      }
      const untilMs = deps.clock.monotonicMs() + graceMs;
      while (isBusy(engine, sessions) && deps.clock.monotonicMs() < untilMs) await deps.clock.sleep(DRAIN_POLL_MS);
      engine.scheduler.clear(deny("SHUTTING_DOWN", "The policy engine is stopping", { retryAfterMs: 1_000 }));
    },
    stop: () => {
      unsubscribe();
      feeds.stop();
      for (const timer of timers.splice(0)) timer.cancel();
      for (const session of sessions) session.close();
      return Promise.resolve();
    },
    checks: checksOf(feeds),
  };

  return {
    module,
    openSession: () => {
      const session = new Session(engine, (closed) => sessions.delete(closed));
      sessions.add(session);
      return session;
    },
    onDraining: (listener) => {
      if (draining) listener();
      else drainListeners.push(listener);
    },
    explain: async (request) => {
      switch (request.subject.case) {
        case "dryRun":
          return engine.dryRun(request.subject.value);
        case "id":
          return records.find(request.subject.value);
        case "last":
          return records.last();
        case undefined:
          return undefined;
      }
    },
  };
}

/**
 * Rolls an experiment back whose arm is broken, unless its guards only alert: a pause would leave its units with what does not work.
 * A change that fails is tried again at the next outcome.
 */
async function stopArm({ control, engineId, logger }: PolicyEngineDeps, engine: LiveEngine, { experiment, reason }: Breach): Promise<void> {
  const { name, revision, guards } = experiment;
  logger.warn({ experiment: name, revision, reason, action: guards.action }, "guard breached");
  if (guards.action === "alert") return;
  try {
    const ifRevision = BigInt(revision);
    await control.rollbackExperiment(create(RollbackExperimentRequestSchema, { name, by: `guard@${engineId}`, reason, ifRevision }));
  } catch (cause) {
    logger.error({ experiment: name, err: cause }, "not rolled back");
    engine.experiments.tellAgain(name);
  }
}

function onTick(engine: LiveEngine, sessions: ReadonlySet<Session>): void {
  engine.tick(sessions);
  const fallback = engine.refreshFallback();
  if (fallback === undefined) return;
  for (const session of sessions) session.push(fallback);
}

function isBusy(engine: LiveEngine, sessions: ReadonlySet<Session>): boolean {
  if (engine.scheduler.size > 0) return true;
  for (const session of sessions) if (session.holdings.size > 0) return true;
  return false;
}

function checksOf(feeds: Feeds): readonly ReadinessCheck[] {
  return [
    { name: "price-book", status: () => feeds.pricesStatus() },
    { name: "control-state", status: () => feeds.controlStatus() },
  ];
}
