import { create } from "@bufbuild/protobuf";
import type { Decision } from "#gen/signalbox/policy/v1/policy_pb.ts";
import {
  type AttemptReport,
  AttemptReportSchema,
  DecideRequestSchema,
  Operation,
  Outcome,
  RequestClass,
} from "#gen/signalbox/policy/v1/policy_pb.ts";
import { PriceBookSchema } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { ControlStateSchema } from "#gen/signalbox/control/v1/control_service_pb.ts";
import { createMemoryBus, type EventBus } from "#libs/bus/index.ts";
import type { Random } from "#libs/clock/index.ts";
import { createConfigSource, loadConfig } from "#libs/config/index.ts";
import type { ControlPeer, LedgerPeer, PolicySession } from "#libs/peers/index.ts";
import { createMetrics, silentLogger } from "#libs/telemetry/index.ts";
import { createPolicyEngine, type PolicyEngineHost } from "#services/policy-engine/index.ts";
import type { EvaluationClass, PoolRequest, PoolView, Router } from "./pool.ts";

const CLASSES: Readonly<Record<EvaluationClass, RequestClass>> = {
  interactive: RequestClass.INTERACTIVE,
  standard: RequestClass.STANDARD,
  batch: RequestClass.BATCH,
};

/** How the production policy engine is set up for a run. */
export interface SignalboxOptions {
  readonly name: string;
  /** signalbox.yaml whose backends are named as the pool's and stand in its order. */
  readonly config: string;
  /** Prices by backend in USD per million tokens; absent = a rented GPU. */
  readonly prices: ReadonlyMap<string, { readonly inputUsd: number; readonly outputUsd: number }>;
  readonly engineId?: string;
  /** Shared by the replicas of one run; own by default. */
  readonly bus?: EventBus;
  readonly random: Random;
}

/** The production policy engine behind the evaluation's router interface: the same module a process runs, in virtual time. */
export interface SignalboxRouter extends Router {
  /** Resolves when its module runs. */
  readonly ready: Promise<void>;
}

/** Makes one engine and one session with it. */
export function signalboxRouter(view: PoolView, options: SignalboxOptions): SignalboxRouter {
  const loaded = loadConfig(options.config, { file: "evaluation.yaml", env: {} });
  if (loaded.problems) throw new Error(loaded.problems.map((problem) => problem.message).join("\n"));
  const { clock } = view;
  const host = createPolicyEngine({
    config: createConfigSource(loaded.config),
    clock,
    random: options.random,
    logger: silentLogger,
    metrics: createMetrics(),
    bus: options.bus ?? createMemoryBus({ clock, logger: silentLogger }),
    ledger: pricesOnly(options.prices),
    control: noControl(),
    engineId: options.engineId ?? "engine-1",
  });
  const session = host.openSession("evaluation");
  const index = new Map(view.backends.map(({ name }, at) => [name, at]));
  return { name: options.name, ready: host.module.start(), ...hooks(session, index, host) };
}

function hooks(session: PolicySession, index: ReadonlyMap<string, number>, host: PolicyEngineHost): Omit<Router, "name"> {
  const decisions = new Map<number, { readonly decision: Decision; readonly backend: string; ttftMs: number }>();
  const report = (request: PoolRequest, event: AttemptReport["event"]): void => {
    const held = decisions.get(request.id)!;
    session.report(
      create(AttemptReportSchema, {
        decisionId: held.decision.decisionId,
        attemptId: held.decision.decisionId,
        backend: held.backend,
        event,
      }),
    );
  };
  return {
    arrive: (request, place, reject) => {
      const ticket = session.decide(decideRequest(request));
      const act = (decision: Decision): void => {
        if (decision.result.case !== "allow") return reject();
        const { backend } = decision.result.value.candidates[0]!;
        decisions.set(request.id, { decision, backend, ttftMs: 0 });
        report(request, { case: "started", value: { $typeName: "signalbox.policy.v1.AttemptStarted", attempt: 1, hedge: false } });
        place(index.get(backend)!);
      };
      if (ticket.decision instanceof Promise) ticket.decision.then(act, reject);
      else act(ticket.decision);
    },
    firstToken: (request, _backend, ttftMs) => {
      decisions.get(request.id)!.ttftMs = ttftMs;
      report(request, { case: "firstToken", value: { $typeName: "signalbox.policy.v1.AttemptFirstToken", ttftMs } });
    },
    gap: (request, _backend, gapMs, outputTokens) =>
      report(request, { case: "gap", value: { $typeName: "signalbox.policy.v1.AttemptGap", gapMs, outputTokens } }),
    done: (request, _backend, durationMs) => {
      const { ttftMs } = decisions.get(request.id)!;
      const usage = { inputTokens: request.inputTokens, cacheReadTokens: 0, outputTokens: request.outputTokens, usageKnown: true };
      const ended = { outcome: Outcome.OK, durationMs, ttftMs, contentSeen: true, ...usage };
      session.report(create(AttemptReportSchema, { ...idOf(decisions.get(request.id)!), event: { case: "ended", value: ended } }));
      report(request, { case: "requestDone", value: { $typeName: "signalbox.policy.v1.RequestDone" } });
      decisions.delete(request.id);
    },
    close: () => {
      session.close();
      void host.module.stop();
    },
  };
}

function idOf({ decision, backend }: { readonly decision: Decision; readonly backend: string }): {
  decisionId: string;
  attemptId: string;
  backend: string;
} {
  return { decisionId: decision.decisionId, attemptId: decision.decisionId, backend };
}

function decideRequest(request: PoolRequest): ReturnType<typeof create<typeof DecideRequestSchema>> {
  return create(DecideRequestSchema, {
    decisionId: `decision-${request.id}`,
    requestId: `request-${request.id}`,
    model: "chat",
    tenant: request.tenant,
    requestClass: CLASSES[request.class],
    operation: Operation.CHAT,
    inputTokens: request.inputTokens,
    stream: true,
    prefixHashes: prefixBytes(request.blocks),
  });
}

/** Block ids as 8-byte hashes, the form the ingress sends. */
function prefixBytes(blocks: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(blocks.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [at, block] of blocks.entries()) {
    view.setUint32(at * 8, Math.imul(block + 1, 0x9e3779b1) >>> 0, true);
    view.setUint32(at * 8 + 4, block + 1, true);
  }
  return bytes;
}

function pricesOnly(prices: SignalboxOptions["prices"]): LedgerPeer {
  const lines = [...prices].map(([backend, { inputUsd, outputUsd }]) => {
    const unset = {
      cacheReadPico: -1n,
      cacheWritePico: -1n,
      cacheWrite1hPico: -1n,
      reasoningPico: -1n,
      audioInputPico: -1n,
      audioOutputPico: -1n,
      imageInputPico: -1n,
    };
    return {
      ...unset,
      backend,
      inputPico: BigInt(Math.round(inputUsd * 1e6)),
      outputPico: BigInt(Math.round(outputUsd * 1e6)),
      grade: "override",
    };
  });
  const book = create(PriceBookSchema, { version: "evaluation", onUnknown: "allow_unpriced", lines });
  const absent = (): never => {
    throw new Error("the evaluation has no ledger");
  };
  return { priceBook: () => Promise.resolve(book), exportEntries: absent, costs: absent, summary: absent };
}

function noControl(): ControlPeer {
  const absent = (): never => {
    throw new Error("the evaluation has no control state to change");
  };
  const state = create(ControlStateSchema, { revision: 1n });
  return {
    state: (known) => Promise.resolve(known === 1n ? undefined : state),
    createKey: absent,
    listKeys: absent,
    revokeKey: absent,
    setDrain: absent,
  };
}
