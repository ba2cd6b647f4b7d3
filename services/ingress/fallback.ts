import { create } from "@bufbuild/protobuf";
import {
  type Candidate,
  CandidateSchema,
  type Decision,
  type DecideRequest,
  DecisionSchema,
  type FallbackCandidate,
  MidStream,
  type ModelFallback,
  Operation,
  type PolicyFallback,
  RequestClass,
} from "#gen/signalbox/policy/v1/policy_pb.ts";
import {
  contextRefusal,
  fitsContext,
  lackOf,
  missingFrom,
  onlyEmbeds,
  paramAtFault,
  reasonsOf,
  type Refusal,
  TOO_DEAR,
  TRIED,
} from "#libs/capability/index.ts";
import type { AppliedRule, FallbackConstraints } from "./fallback-constraints.ts";
import { classNameOf, classOf } from "./request-options.ts";

/**
 * A decision without an engine (decision 9): the pushed fallback's candidates in their order, filtered by capability mask,
 * context, rules, the caller's cost limit and usability. Marked stale. A denial names what ruled out whom.
 */
export function decideByFallback(request: DecideRequest, fallback: PolicyFallback, constraints: FallbackConstraints): Decision {
  const model = fallback.models.find((entry) => entry.model === request.model || entry.aliases.includes(request.model));
  if (model === undefined) {
    return denied(request, fallback, undefined, "MODEL_UNKNOWN", `The model '${request.model}' does not exist.`, "model");
  }
  const rule = constraints.ruleOf(request, model.model, classNameOf(request.requestClass || model.requestClass));
  const kept: Candidate[] = [];
  const spare: Candidate[] = [];
  const excluded: Candidate[] = [];
  let incapable = 0;
  for (const entry of model.candidates) {
    const candidate = candidateOf(entry.backend, entry.provider, entry.upstreamModel);
    const refusal = hardRefusal(request, model, entry, rule, constraints);
    if (refusal !== undefined) {
      incapable++;
      excluded.push(ruledOut(candidate, refusal));
    } else if (request.exclude.includes(entry.backend)) excluded.push(ruledOut(candidate, TRIED));
    else if (entry.lastResort) spare.push(candidate);
    else if (!entry.usable)
      excluded.push(ruledOut(candidate, { requirement: "health", detail: "was not usable when the fallback was made" }));
    else kept.push(candidate);
  }
  // As the engine has it: statistics never leave a request without anybody.
  if (kept.length === 0) kept.push(...spare);
  else
    for (const candidate of spare)
      excluded.push(ruledOut(candidate, { requirement: "health", detail: "was slower or worse than others when the fallback was made" }));
  if (kept.length === 0) {
    const list = reasonsOf(excluded) || "it has no candidates";
    const decision =
      incapable < model.candidates.length
        ? denied(request, fallback, model, "NO_BACKEND", `No backend of model '${model.model}' is available: ${list}`, "")
        : denied(
            request,
            fallback,
            model,
            "NO_CAPABLE_BACKEND",
            `No backend of model '${model.model}' can serve this request: ${list}`,
            paramAtFault(excluded),
          );
    return { ...decision, excluded };
  }
  return {
    ...header(request, fallback, model, rule),
    result: { case: "allow", value: { $typeName: "signalbox.policy.v1.Allow", candidates: kept } },
    excluded: request.explain ? excluded : [],
  };
}

function header(
  request: DecideRequest,
  fallback: PolicyFallback,
  model: ModelFallback | undefined,
  rule: AppliedRule | undefined,
): Decision {
  return create(DecisionSchema, {
    decisionId: request.decisionId,
    configVersion: fallback.configVersion,
    priceVersion: fallback.priceVersion,
    model: model?.model ?? request.model,
    requestClass: rule?.class ? classOf(rule.class) : request.requestClass || (model?.requestClass ?? RequestClass.STANDARD),
    stale: true,
    midStream: model?.midStream ?? MidStream.ERROR,
    maxAttempts: model?.maxAttempts ?? 0,
    deadlineMs: model?.deadlineMs ?? 0,
  });
}

function denied(
  request: DecideRequest,
  fallback: PolicyFallback,
  model: ModelFallback | undefined,
  reason: string,
  detail: string,
  param: string,
): Decision {
  return {
    ...header(request, fallback, model, undefined),
    result: { case: "deny", value: { $typeName: "signalbox.policy.v1.Deny", reason, detail, retryAfterMs: 0, param, code: "" } },
  };
}

/** What rules a candidate out whoever is up, in the engine's words; undefined = nothing. */
function hardRefusal(
  request: DecideRequest,
  model: ModelFallback,
  entry: FallbackCandidate,
  rule: AppliedRule | undefined,
  constraints: FallbackConstraints,
): Refusal | undefined {
  const needs = request.needs | model.requires;
  const embeds = request.operation === Operation.EMBEDDINGS;
  if (missingFrom(needs, entry.capabilities).length > 0 || (!embeds && onlyEmbeds(entry.capabilities)))
    return lackOf(needs, entry.capabilities);
  if (!embeds && !fitsContext(request.inputTokens, request.maxOutputTokens, entry.context))
    return contextRefusal(request.inputTokens, request.maxOutputTokens, entry.context);
  const against = rule?.against(entry.backend);
  if (against !== undefined) return against;
  return constraints.isTooDear(request, entry.backend) ? TOO_DEAR : undefined;
}

function ruledOut(candidate: Candidate, { requirement, detail }: Refusal): Candidate {
  return { ...candidate, excluded: { $typeName: "signalbox.policy.v1.Exclusion", requirement, detail } };
}

function candidateOf(backend: string, provider: string, upstreamModel: string): Candidate {
  return create(CandidateSchema, { backend, provider, upstreamModel });
}
