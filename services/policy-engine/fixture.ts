import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type ControlState, ControlStateSchema } from "#gen/signalbox/control/v1/control_service_pb.ts";
import { BackendHealthSchema, HealthSnapshotSchema } from "#gen/signalbox/health/v1/health_service_pb.ts";
import { type PriceBook, PriceBookSchema } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import {
  type AttemptEnded,
  AttemptEndedSchema,
  type AttemptReport,
  type DecideRequest,
  DecideRequestSchema,
  type Decision,
  Outcome,
} from "#gen/signalbox/policy/v1/policy_pb.ts";
import { createMemoryBus, type EventBus, SUBJECTS } from "#libs/bus/index.ts";
import { FakeClock, SeededRandom } from "#libs/clock/fake.ts";
import {
  type BackendConfig,
  type Config,
  createConfigSource,
  defaultBackend,
  defaultConfig,
  type ModelConfig,
  type SwappableConfigSource,
} from "#libs/config/index.ts";
import { blankLine } from "#libs/money/index.ts";
import type { ControlPeer, ReportRequest, LedgerPeer, PolicySession } from "#libs/peers/index.ts";
import { createMetrics, silentLogger } from "#libs/telemetry/index.ts";
import type { DecisionRecords } from "./records.ts";
import { createPolicyEngine, type PolicyEngineHost } from "./module.ts";

export { defaultModel as model } from "#libs/config/index.ts";

/** A backend for tests: everything default but what is given. */
export function backend(name: string, parts: Partial<BackendConfig> = {}): BackendConfig {
  return defaultBackend({ name, provider: "openai", model: `${name}-model`, ...parts });
}

/** A configuration over these backends and models. */
export function config(backends: readonly BackendConfig[], models: readonly ModelConfig[], parts: Partial<Config> = {}): Config {
  return defaultConfig({
    backends: new Map(backends.map((each) => [each.name, each])),
    models: new Map(models.map((each) => [each.name, each])),
    ...parts,
  });
}

/** A price book: $ per million tokens in and out, or rent per hour. */
export function book(
  prices: Readonly<Record<string, { readonly input: number; readonly output: number } | { readonly rent: number }>>,
): PriceBook {
  const lines = Object.entries(prices).map(([name, price]) => {
    const line = { ...blankLine(name), grade: "override" };
    if ("rent" in price) return { ...line, perHourNano: BigInt(Math.round(price.rent * 1e9)) };
    return { ...line, inputPico: BigInt(Math.round(price.input * 1e6)), outputPico: BigInt(Math.round(price.output * 1e6)) };
  });
  return create(PriceBookSchema, { version: "prices-1", lines, onUnknown: "allow_unpriced" });
}

let drawn = 0;

/** A request for `model`, all else ordinary. */
export function request(modelName: string, parts: MessageInitShape<typeof DecideRequestSchema> = {}): DecideRequest {
  drawn += 1;
  return create(DecideRequestSchema, {
    decisionId: `decision-${drawn}`,
    requestId: `request-${drawn}`,
    model: modelName,
    tenant: "default",
    inputTokens: 500,
    stream: true,
    ...parts,
  });
}

/** An attempt's end. */
export function ended(parts: MessageInitShape<typeof AttemptEndedSchema> = {}): AttemptEnded {
  return create(AttemptEndedSchema, {
    outcome: Outcome.OK,
    durationMs: 500,
    ttftMs: 100,
    inputTokens: 500,
    outputTokens: 50,
    httpStatus: 200,
    ...parts,
  });
}

/** An attempt that failed with `reason`. */
export function failed(reason: string, parts: MessageInitShape<typeof AttemptEndedSchema> = {}): AttemptEnded {
  return ended({ outcome: Outcome.FAILED, reason, ttftMs: 0, outputTokens: 0, httpStatus: 500, ...parts });
}

/** A report about the first attempt of a decision. */
export function report(decisionId: string, backendName: string, event: AttemptReport["event"]): AttemptReport {
  return {
    $typeName: "signalbox.policy.v1.AttemptReport",
    decisionId,
    attemptId: `${decisionId}/${backendName}`,
    backend: backendName,
    event,
  };
}

/** The event that bytes go upstream. */
export const STARTED: AttemptReport["event"] = {
  case: "started",
  value: { $typeName: "signalbox.policy.v1.AttemptStarted", attempt: 1, hedge: false },
};

/** The event that a request is over. */
export const DONE: AttemptReport["event"] = { case: "requestDone", value: { $typeName: "signalbox.policy.v1.RequestDone" } };

/** A whole engine in virtual time, with one session. */
export interface World {
  readonly clock: FakeClock;
  readonly bus: EventBus;
  readonly config: SwappableConfigSource;
  /** What the engine told the control service. */
  readonly reports: readonly ReportRequest[];
  readonly host: PolicyEngineHost;
  readonly session: PolicySession;
  /** Decides; fails the test when the answer is not there at once. */
  now(asked: DecideRequest): Decision;
  /** Publishes a health snapshot. */
  health(...backends: readonly MessageInitShape<typeof BackendHealthSchema>[]): Promise<void>;
  /** Publishes control state. */
  drains(...names: readonly string[]): Promise<void>;
}

/** Builds a world and starts it. */
export async function world(
  initial: Config,
  prices: PriceBook = book({}),
  seed = 1,
  recordsOver?: (clock: FakeClock) => DecisionRecords,
): Promise<World> {
  const clock = new FakeClock();
  const random = new SeededRandom(seed);
  const bus = createMemoryBus({ clock, logger: silentLogger });
  const source = createConfigSource(initial);
  const reports: ReportRequest[] = [];
  const host = createPolicyEngine({
    config: source,
    clock,
    random,
    logger: silentLogger,
    metrics: createMetrics(),
    bus,
    ledger: { priceBook: () => Promise.resolve(prices) } as LedgerPeer,
    control: { report: (request: ReportRequest) => Promise.resolve(void reports.push(request)) } as unknown as ControlPeer,
    engineId: "engine-1",
    ...(recordsOver === undefined ? {} : { records: recordsOver(clock) }),
  });
  await host.module.start();
  const session = host.openSession("ingress-1");
  let revision = 0n;
  return {
    clock,
    bus,
    config: source,
    reports,
    host,
    session,
    now: (asked) => {
      const { decision } = session.decide(asked);
      if (decision instanceof Promise) throw new Error("the request waits");
      return decision;
    },
    health: async (...backends) => {
      revision += 1n;
      const snapshot = create(HealthSnapshotSchema, {
        revision,
        monitor: "m",
        publishedAtMs: clock.now(),
        backends: backends.map((each) => create(BackendHealthSchema, each)),
      });
      bus.publish(SUBJECTS.healthPublished, toBinary(HealthSnapshotSchema, snapshot));
      await clock.advanceAsync(0);
    },
    drains: async (...names) => {
      revision += 1n;
      const state: ControlState = create(ControlStateSchema, { revision, drainedBackends: [...names] });
      bus.publish(SUBJECTS.controlChanged, toBinary(ControlStateSchema, state));
      await clock.advanceAsync(0);
    },
  };
}

/** Names of the allowed candidates, best first; the reason in brackets when denied. */
export function chosen(decision: Decision): readonly string[] {
  if (decision.result.case === "allow") return decision.result.value.candidates.map((candidate) => candidate.backend);
  return [`[${decision.result.value?.reason}]`];
}
