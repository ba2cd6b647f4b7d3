import { type FallbackCandidate, MidStream, type ModelFallback, type PolicyFallback } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { create } from "@bufbuild/protobuf";
import { DecideRequestSchema } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { isPriced } from "#libs/money/index.ts";
import type { Engine } from "./engine.ts";
import { isStatistical, judgeHealth, OUT } from "./filter.ts";
import type { Moment } from "./judge.ts";
import type { CompiledModel } from "./models.ts";
import { CLASS_NUMBER } from "./resolve.ts";
import type { PolicySnapshot } from "./snapshot.ts";
import type { EngineState } from "./state.ts";

/** An ordinary request, for the order of the candidates: a thousand prompt tokens, streamed. */
const ORDINARY = create(DecideRequestSchema, { tenant: "", inputTokens: 1_000, stream: true });

/** What an ingress uses when no engine answers: every model with its candidates, in the order an ordinary request would try them. */
export function buildFallback(engine: Engine, snapshot: PolicySnapshot, state: EngineState, now: Moment): PolicyFallback {
  const names = new Map<CompiledModel, string[]>();
  for (const [name, model] of snapshot.models) {
    const known = names.get(model);
    if (known === undefined) names.set(model, [name]);
    else known.push(name);
  }
  const models: ModelFallback[] = [];
  for (const [model, answersTo] of names) models.push(modelFallback(model, answersTo, engine, snapshot, state, now));
  return {
    $typeName: "signalbox.policy.v1.PolicyFallback",
    configVersion: snapshot.config.configVersion,
    priceVersion: snapshot.prices.version,
    models,
  };
}

function modelFallback(
  model: CompiledModel,
  answersTo: readonly string[],
  engine: Engine,
  snapshot: PolicySnapshot,
  state: EngineState,
  now: Moment,
): ModelFallback {
  const requestClass = CLASS_NUMBER[model.class];
  return {
    $typeName: "signalbox.policy.v1.ModelFallback",
    model: model.name,
    aliases: answersTo.filter((name) => name !== model.name),
    candidates: orderedIndices(model, answersTo, engine, snapshot, state, now).map((index) =>
      fallbackCandidate(index, snapshot, state, now),
    ),
    requestClass,
    midStream: model.midStream === "resume" ? MidStream.RESUME : MidStream.ERROR,
    maxAttempts: snapshot.config.resilience.attempts[model.class],
    deadlineMs: model.sla.deadlineMs ?? 0,
    requires: model.requires,
  };
}

function orderedIndices(
  model: CompiledModel,
  answersTo: readonly string[],
  engine: Engine,
  snapshot: PolicySnapshot,
  state: EngineState,
  now: Moment,
): readonly number[] {
  const request = { ...ORDINARY, model: answersTo[0] ?? model.name, requestClass: CLASS_NUMBER[model.class] };
  const verdict = engine.decide(request, snapshot, state, now, { seed: 0, explain: false, live: false, lift: 0 });
  const ordered: number[] = [];
  if (verdict.kind === "decided" && verdict.evidence.decision.result.case === "allow") {
    for (const { backend } of verdict.evidence.decision.result.value.candidates) ordered.push(snapshot.indexOf.get(backend)!);
  }
  for (const index of model.candidates) if (!ordered.includes(index)) ordered.push(index);
  return ordered;
}

function fallbackCandidate(index: number, snapshot: PolicySnapshot, state: EngineState, now: Moment): FallbackCandidate {
  const { config, name } = snapshot.backends[index]!;
  const backend = state.backends[index]!;
  const health = judgeHealth(snapshot, backend, index, false, now.monoMs);
  const billed = mayBeBilled(snapshot, name, now.wallMs);
  return {
    $typeName: "signalbox.policy.v1.FallbackCandidate",
    backend: name,
    capabilities: snapshot.masks[index]!,
    context: config.contextTokens,
    provider: config.provider,
    upstreamModel: config.model,
    usable: health === OUT.none && billed,
    lastResort: health === OUT.ejected && isStatistical(backend) && billed,
    residency: config.labels.get("residency") ?? "",
    maxOutput: config.maxOutputTokens,
  };
}

/** Whether what a backend is used for has a price, or needs none to be allowed. */
function mayBeBilled({ prices }: PolicySnapshot, backend: string, atMs: number): boolean {
  return prices.version === "" || prices.onUnknown !== "reject" || isPriced(prices, backend, atMs);
}
