import { create, toBinary } from "@bufbuild/protobuf";
import { AttemptsCompletedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import { type AttemptEnded, DecideRequestSchema, Operation, Outcome, RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { DecideRequest } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { type EventBus, SUBJECTS } from "#libs/bus/index.ts";
import type { Clock } from "#libs/clock/index.ts";
import { RetryBudget } from "#libs/resilience/index.ts";
import { Exchange, type ExchangeDeps } from "./exchange.ts";
import type { EvaluationClass, PoolRequest, PoolView, Router } from "./pool.ts";
import { prefixHashes } from "./prefix-hashes.ts";
import { type HostOptions, signalboxHost, type SignalboxHost } from "./signalbox-host.ts";

const CLASSES: Readonly<Record<EvaluationClass, RequestClass>> = {
  interactive: RequestClass.INTERACTIVE,
  standard: RequestClass.STANDARD,
  batch: RequestClass.BATCH,
};

/** The production modules behind the evaluation's router interface: the policy engine decides, an exchange per request dispatches. */
export interface SignalboxRouter extends Router {
  readonly host: SignalboxHost;
}

/** Starts one replica and opens one session with it, as an ingress does. */
export async function signalboxRouter(view: PoolView, name: string, options: HostOptions): Promise<SignalboxRouter> {
  const host = signalboxHost(view, options);
  await host.start();
  const session = host.engine.openSession("evaluation");
  const { clock } = view;
  const { prefixes = true } = options.policy;
  const { retry } = host.config.resilience;
  const deps: ExchangeDeps = {
    session,
    clock,
    random: options.random,
    indexOf: new Map(view.backends.map((backend, at) => [backend.name, at])),
    budget: new RetryBudget({ ratio: retry.budget, minPerS: retry.minPerS }, clock.monotonicMs()),
    completed: completions(options.bus, clock),
  };
  const exchanges = new Map<number, Exchange>();
  const of = (request: PoolRequest): Exchange => exchanges.get(request.id)!;
  return {
    name,
    host,
    arrive: (request, placement) => {
      const exchange = new Exchange(deps, request, decideRequest(request, prefixes), placement, () => exchanges.delete(request.id));
      exchanges.set(request.id, exchange);
      exchange.start();
    },
    firstToken: (request, _backend, ttftMs, cachedTokens) => of(request).firstToken(ttftMs, cachedTokens),
    gap: (request, _backend, gapMs, outputTokens) => of(request).gap(gapMs, outputTokens),
    done: (request, _backend, tookMs) => of(request).done(tookMs),
    failed: (request, _backend, failure) => of(request).failed(failure),
    close: () => {
      session.close();
      host.stop();
    },
  };
}

/** The features of a request as the ingress finds them; the answer's length is not among them. */
function decideRequest(request: PoolRequest, prefixes: boolean): DecideRequest {
  return create(DecideRequestSchema, {
    decisionId: `decision-${request.id}`,
    requestId: `request-${request.id}`,
    model: "chat",
    tenant: request.tenant,
    requestClass: CLASSES[request.class],
    operation: Operation.CHAT,
    inputTokens: request.inputTokens,
    inputBytes: request.inputTokens * 4,
    stream: true,
    prefixHashes: prefixHashes(prefixes ? request.blocks : [], request.inputTokens),
  });
}

/** What adapters tell the health monitor of each attempt's end. */
function completions(bus: EventBus, clock: Clock): ExchangeDeps["completed"] {
  return (backend: string, attemptId: string, ended: AttemptEnded) => {
    const { outcome, reason, durationMs, ttftMs, outputTokens, inputTokens, httpStatus, retryAfterMs } = ended;
    const end = {
      outcome,
      durationMs,
      ttftMs,
      contentSeen: ended.contentSeen,
      usageKnown: true,
      usage: { inputTokens, outputTokens },
      ...(outcome === Outcome.OK ? {} : { error: { reason, httpStatus, retryAfterMs } }),
    };
    const attempts = [{ attemptId, backend, replica: "adapter-1", endedAtMs: clock.now(), end }];
    bus.publish(SUBJECTS.attemptCompleted, toBinary(AttemptsCompletedSchema, create(AttemptsCompletedSchema, { attempts })));
  };
}
