import type { EventBus } from "#libs/bus/bus.ts";
import { type Clock, createUuidV7, type LoopLag, noLag, type Random } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import type { ReadinessCheck, ServiceModule } from "#libs/lifecycle/index.ts";
import type { AdapterPeer, ControlPeer, LedgerPeer, PolicyPeer } from "#libs/peers/index.ts";
import { type Logger, type Metrics, noTracing, type Tracing } from "#libs/telemetry/index.ts";
import { METRIC } from "#libs/telemetry/semconv.ts";
import { KeyBook, type StateStore } from "./auth.ts";
import { BodyMemory } from "./body.ts";
import { Admission } from "./budgets/admission.ts";
import { BudgetHolder } from "./budgets/holder.ts";
import { MeteredOutbox } from "./budgets/metered-outbox.ts";
import { RetryBudgets } from "./dispatch-deps.ts";
import { Dispatcher } from "./dispatcher.ts";
import { CollectMemory } from "./experiments/collected.ts";
import { FeedbackDesk } from "./experiments/feedback.ts";
import { ExperimentSide } from "./experiments/side.ts";
import { FallbackConstraints } from "./fallback-constraints.ts";
import { GpuShare } from "./gpu-share.ts";
import { HttpApi } from "./http-api.ts";
import { HttpServer } from "./http-server.ts";
import { IdempotencyStore } from "./idempotency.ts";
import { createInference, type Inference } from "./inference.ts";
import { DRAIN_TAIL_MS, PEERS_LOOK_MS, PEERS_WAIT_MS, START_WAIT_MS } from "./limits.ts";
import { MetAdapters } from "./met-adapters.ts";
import { Money } from "./money.ts";
import type { OutboxPort } from "./outbox-port.ts";
import { Pipeline } from "./pipeline.ts";
import { Prices } from "./prices.ts";
import { RateWaits } from "./rate-waits.ts";
import { RequestRecorder } from "./recorder.ts";
import { RequestLog } from "./request-log.ts";
import { RequestMetrics } from "./request-metrics.ts";
import { SharedAnswers } from "./shared-answers.ts";
import { SingleFlight } from "./single-flight.ts";
import { TokenFactors } from "./tokens.ts";
import { withinMs } from "./within.ts";

/** What an ingress is made of. */
export interface IngressDeps {
  readonly config: ConfigSource;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly tracing?: Tracing;
  readonly bus: EventBus;
  readonly policy: PolicyPeer;
  readonly adapters: AdapterPeer;
  readonly control: ControlPeer;
  readonly ledger: LedgerPeer;
  readonly outbox: OutboxPort;
  readonly stateStore?: StateStore;
  /** Whether other ingresses serve the same callers: then answers to idempotency keys are shared over the bus. */
  readonly hasPeers?: boolean;
  /** How late this process's event loop is; absent = never. */
  readonly loopLag?: LoopLag;
  /** Names this process; for logs. */
  readonly ingressId: string;
}

/** The public door of the mesh, as its own process sees it. */
export interface IngressHost {
  readonly module: ServiceModule;
  /** Where the API listens; meaningful after `module.start()`. */
  address(): { readonly host: string; readonly port: number };
  /** Typed inference for `rpc.ts`: the same pipeline without HTTP. */
  readonly inference: Inference;
}

/** Builds an ingress. Nothing runs before `module.start()`. */
export function createIngress(deps: IngressDeps): IngressHost {
  const { config, clock, random, bus } = deps;
  const logger = deps.logger.child({ ingress: deps.ingressId });
  const tracing = deps.tracing ?? noTracing;
  const nextId = createUuidV7(clock, random);
  const factors = new TokenFactors();
  const keys = new KeyBook({
    clock,
    bus,
    control: deps.control,
    logger,
    replica: deps.ingressId,
    ...(deps.stateStore ? { stateStore: deps.stateStore } : {}),
  });
  const prices = new Prices(bus, deps.ledger, clock, logger);
  const metrics = new RequestMetrics(deps.metrics);
  const log = new RequestLog(logger, clock);
  const memory = new BodyMemory();
  const pipeline = new Pipeline({ config, clock, tracing, keys, factors, nextId });
  const holder = new BudgetHolder({ config, clock, ledger: deps.ledger, logger, holder: deps.ingressId });
  const admission = new Admission({ config, clock, holder, prices, catalog: () => pipeline.catalog });
  const outbox = new MeteredOutbox(deps.outbox, admission.allowances);
  const recorder = new RequestRecorder(metrics, log, tracing, config, factors);
  const rateWaits = new RateWaits(config);
  const shared = {
    config,
    clock,
    random,
    logger,
    tracing,
    policy: deps.policy,
    adapters: deps.adapters,
    outbox,
    nextId,
    money: new Money(config, prices, outbox),
    gpuShare: new GpuShare(),
    collecting: new CollectMemory(),
    fallbackConstraints: new FallbackConstraints(config, prices, clock),
  };
  const side = new ExperimentSide({
    config,
    clock,
    logger,
    admission,
    nextId,
    random,
    pipeline,
    metrics: deps.metrics,
    ledger: deps.ledger,
    loopLag: deps.loopLag ?? noLag,
    dispatch: { ...shared, rateWaits: new RateWaits(config) },
  });
  const dispatcher = new Dispatcher({
    ...shared,
    budgets: new RetryBudgets(config, clock),
    witness: side,
    rateWaits,
    recorder: {
      began: () => recorder.began(),
      finished: (summary) => {
        admission.close(summary.intake.decide.decisionId);
        recorder.finished(summary);
      },
    },
  });
  const life: Life = { draining: false, closing: false };
  const met = new MetAdapters(config, deps.adapters, clock);
  const isClosing = (): boolean => life.closing;
  const answers = deps.hasPeers === true ? new SharedAnswers({ bus, clock, logger, ingressId: deps.ingressId }) : undefined;
  const idempotency = new IdempotencyStore(clock, answers);
  const feedback = new FeedbackDesk({ config, clock, metrics: deps.metrics, ledger: deps.ledger, recent: side.recent });
  const api = new HttpApi({
    feedback,
    config,
    clock,
    logger,
    pipeline,
    dispatcher,
    admission,
    idempotency,
    singleFlight: new SingleFlight(),
    loopLag: deps.loopLag ?? noLag,
    memory,
    metrics,
    log,
    isClosing,
  });
  const server = new HttpServer(config.current.server.api, clock, nextId, (request, response, continues) =>
    api.handle(request, response, continues),
  );
  api.attach(server);
  const bodies = deps.metrics.gauge(METRIC.bodyBytes, "Bytes of request bodies held.").with();
  const waiting = deps.metrics.gauge(METRIC.rateWaits, "Requests that wait for a provider's rate limit to lift.").with();
  deps.metrics.onScrape(() => {
    bodies.set(memory.bytes);
    waiting.set(rateWaits.size);
  });
  return {
    module: moduleOf({ deps, keys, prices, holder, dispatcher, side, server, life, met, answers }),
    address: () => server.address(),
    inference: createInference(pipeline, admission, dispatcher, isClosing),
  };
}

/** How far the process is on its way out. */
interface Life {
  /** Not ready any more, but still serving. */
  draining: boolean;
  /** Connections end with their answers. */
  closing: boolean;
}

interface Parts {
  readonly deps: IngressDeps;
  readonly keys: KeyBook;
  readonly prices: Prices;
  readonly holder: BudgetHolder;
  readonly dispatcher: Dispatcher;
  readonly side: ExperimentSide;
  readonly server: HttpServer;
  readonly life: Life;
  readonly met: MetAdapters;
  readonly answers: SharedAnswers | undefined;
}

function moduleOf({ deps, keys, prices, holder, dispatcher, side, server, life, met, answers }: Parts): ServiceModule {
  const { clock, config } = deps;
  return {
    name: "ingress",
    checks: checksOf(deps, keys, prices, life, met),
    async start() {
      await Promise.all([keys.start(), prices.start()]);
      holder.start();
      dispatcher.start();
      side.start();
      answers?.start();
      met.start();
      await peersMet(deps, met);
      await server.listen();
    },
    async drain(graceMs) {
      const endMs = clock.monotonicMs() + graceMs;
      life.draining = true;
      await clock.sleep(Math.min(config.current.server.drain.delayMs, graceMs / 2));
      life.closing = true;
      server.closeListener();
      const tailMs = Math.min(DRAIN_TAIL_MS, graceMs / 10);
      await withinMs(
        clock,
        endMs - tailMs - clock.monotonicMs(),
        side.close().then(() => dispatcher.whenIdle()),
      );
      dispatcher.shutDown();
      await withinMs(clock, endMs - clock.monotonicMs(), dispatcher.whenIdle());
    },
    stop() {
      server.closeAll();
      dispatcher.stop();
      side.stop();
      keys.stop();
      prices.stop();
      answers?.stop();
      return withinMs(clock, START_WAIT_MS, holder.stop());
    },
  };
}

/** Holds the door shut until there is somebody to decide and somebody to call, as long as that takes moments: before, every answer would be 503. */
async function peersMet(deps: IngressDeps, met: MetAdapters): Promise<void> {
  const { clock, policy } = deps;
  const untilMs = clock.monotonicMs() + PEERS_WAIT_MS;
  while (clock.monotonicMs() < untilMs) {
    if (met.all && (policy.connected || policy.fallback !== undefined)) return;
    await clock.sleep(PEERS_LOOK_MS);
  }
}

function checksOf(deps: IngressDeps, keys: KeyBook, prices: Prices, life: Life, met: MetAdapters): readonly ReadinessCheck[] {
  return [
    { name: "ingress", status: () => (life.draining ? { state: "failed", detail: "draining" } : { state: "ok" }) },
    {
      name: "policy-session",
      status: () => {
        if (deps.policy.connected) return { state: "ok" };
        return deps.policy.fallback === undefined
          ? { state: "failed", detail: "no policy engine, and none has sent a fallback yet" }
          : { state: "degraded", detail: "no policy engine: decisions come from the last fallback" };
      },
    },
    { name: "adapters", status: () => met.status() },
    { name: "key-store", status: () => keys.status() },
    {
      name: "outbox",
      status: () => (deps.outbox.accepting ? { state: "ok" } : { state: "failed", detail: "the outbox takes nothing new" }),
    },
    { name: "prices", status: () => prices.status() },
  ];
}
