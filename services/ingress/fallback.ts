import { create } from "@bufbuild/protobuf";
import {
  type Candidate,
  CandidateSchema,
  type Decision,
  type DecideRequest,
  DecisionSchema,
  MidStream,
  type ModelFallback,
  Operation,
  type PolicyFallback,
  RequestClass,
} from "#gen/signalbox/policy/v1/policy_pb.ts";
import { fitsContext, missingFrom } from "#libs/capability/index.ts";
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
    const missing = missingFrom(request.needs | model.requires, entry.capabilities);
    const against = rule?.against(entry.backend);
    const candidate = candidateOf(entry.backend, entry.provider, entry.upstreamModel);
    if (missing.length > 0) {
      incapable++;
      excluded.push(ruledOut(candidate, missing[0]!, `lacks ${missing.join(", ")}`));
    } else if (request.operation !== Operation.EMBEDDINGS && !fitsContext(request.inputTokens, request.maxOutputTokens, entry.context)) {
      incapable++;
      excluded.push(ruledOut(candidate, "context", `holds ${entry.context} tokens`));
    } else if (against !== undefined) {
      incapable++;
      excluded.push(ruledOut(candidate, against.requirement, against.detail));
    } else if (constraints.isTooDear(request, entry.backend)) {
      incapable++;
      excluded.push(ruledOut(candidate, "cost", "would cost more than the request allows"));
    } else if (request.exclude.includes(entry.backend)) excluded.push(ruledOut(candidate, "tried", "tried already"));
    else if (entry.lastResort) spare.push(candidate);
    else if (!entry.usable) excluded.push(ruledOut(candidate, "health", "was not usable when the fallback was made"));
    else kept.push(candidate);
  }
  // As the engine has it: statistics never leave a request without anybody.
  if (kept.length === 0) kept.push(...spare);
  else
    for (const candidate of spare)
      excluded.push(ruledOut(candidate, "health", "was slower or worse than others when the fallback was made"));
  if (kept.length === 0) {
    const reasons = excluded.map((candidate) => `${candidate.backend}: ${candidate.excluded?.detail ?? ""}`).join("; ");
    const capable = incapable < model.candidates.length;
    const text = `No candidate of '${model.model}' can serve this request: ${reasons || "it has none"}.`;
    const decision = denied(request, fallback, model, capable ? "NO_BACKEND" : "NO_CAPABLE_BACKEND", text, "");
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

function ruledOut(candidate: Candidate, requirement: string, detail: string): Candidate {
  return { ...candidate, excluded: { $typeName: "signalbox.policy.v1.Exclusion", requirement, detail } };
}

function candidateOf(backend: string, provider: string, upstreamModel: string): Candidate {
  return create(CandidateSchema, { backend, provider, upstreamModel });
}
