import { type DecideRequest, Operation, RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { CAPABILITY_BITS } from "#libs/capability/index.ts";
import { type ClassName, nearest } from "#libs/config/index.ts";
import type { Reason } from "#libs/errors/index.ts";
import { NO_EFFECT } from "#libs/experiments/index.ts";
import type { Assignment } from "./experiments.ts";
import type { CompiledModel } from "./models.ts";
import { type CompiledRule, ruleFor } from "#libs/rules/index.ts";
import type { PolicySnapshot } from "./snapshot.ts";

/** Class names with the internal one; the index is the number on the wire. */
export type SchedulingClass = ClassName | "system";

/** Everything about a request that does not change while it waits. */
export interface Resolved {
  readonly request: DecideRequest;
  /** The snapshot it was resolved against: with another one in force it must be resolved again. */
  readonly snapshot: PolicySnapshot;
  /** With the candidates of the request's arm, where it has one. */
  readonly model: CompiledModel;
  /** Experiment and arm it takes part in. */
  readonly assignment: Assignment | undefined;
  readonly class: SchedulingClass;
  readonly requestClass: RequestClass;
  /** Capability bits, the model's own included. */
  readonly needs: number;
  readonly inputTokens: number;
  readonly maxOutputTokens: number;
  readonly rule: CompiledRule | undefined;
  /** Targets, ms; Infinity = none. */
  readonly ttftTargetMs: number;
  readonly tpotTargetMs: number;
  /** From arrival, ms; Infinity = none. */
  readonly deadlineMs: number;
  /** nano-USD; Infinity = no limit. */
  readonly maxCostNano: number;
}

/** A refusal, as a value. */
export interface Denial {
  readonly reason: Reason;
  readonly detail: string;
  readonly param: string;
  readonly code: string;
  readonly retryAfterMs: number;
}

/** Targets where neither caller nor model states one, ms. Nobody waits for a batch. */
const DEFAULT_TARGETS: Readonly<Record<SchedulingClass, { readonly ttftMs: number; readonly tpotMs: number }>> = {
  system: { ttftMs: 5_000, tpotMs: 100 },
  interactive: { ttftMs: 1_000, tpotMs: 50 },
  standard: { ttftMs: 5_000, tpotMs: 100 },
  batch: { ttftMs: Number.POSITIVE_INFINITY, tpotMs: Number.POSITIVE_INFINITY },
};

const CLASS_OF: Readonly<Record<RequestClass, SchedulingClass | undefined>> = {
  [RequestClass.UNSPECIFIED]: undefined,
  [RequestClass.SYSTEM]: "system",
  [RequestClass.INTERACTIVE]: "interactive",
  [RequestClass.STANDARD]: "standard",
  [RequestClass.BATCH]: "batch",
};

/** The number on the wire. */
export const CLASS_NUMBER: Readonly<Record<SchedulingClass, RequestClass>> = {
  system: RequestClass.SYSTEM,
  interactive: RequestClass.INTERACTIVE,
  standard: RequestClass.STANDARD,
  batch: RequestClass.BATCH,
};

const SYSTEM_ACCOUNT = "system";

const EMBEDDINGS_BIT = 1 << CAPABILITY_BITS.embeddings;
const SCHEMA_BIT = 1 << CAPABILITY_BITS.json_schema;

/** Whether a resolution failed. */
export function isDenial(value: Resolved | Denial): value is Denial {
  return "reason" in value;
}

/** Finds the model, the class, the rule and the targets of a request; or why it may not go at all. */
export function resolve(request: DecideRequest, snapshot: PolicySnapshot): Resolved | Denial {
  const model = snapshot.models.get(request.model);
  if (model === undefined) return unknownModel(request.model, snapshot);
  // Who judges is the operator's choice, not the client's.
  if (request.role !== "judge" && !isAllowed(snapshot.tenantModels.get(request.tenant), model, request.model))
    return notAllowed(request.model, `tenant ${request.tenant}`);
  if (!isAllowed(snapshot.keyModels.get(request.keyId), model, request.model)) return notAllowed(request.model, "this key");
  const asked = CLASS_OF[request.requestClass] ?? model.class;
  const rule = ruleFor(snapshot.rules, request, model.name, asked === "system" ? "standard" : asked);
  const className = rule?.class ?? asked;
  const { sla } = model;
  const assignment = request.role === "judge" ? undefined : snapshot.experiments.assign(request, model.name);
  const defaults = DEFAULT_TARGETS[className];
  const { needs, inputTokens, maxOutputTokens } = demandOf(request, model, assignment);
  return {
    request,
    snapshot,
    model: assignment === undefined ? model : assignment.arm.model,
    assignment,
    class: className,
    requestClass: CLASS_NUMBER[className],
    needs,
    inputTokens,
    maxOutputTokens,
    rule,
    ttftTargetMs: request.ttftTargetMs > 0 ? request.ttftTargetMs : (sla.ttftMs ?? defaults.ttftMs),
    tpotTargetMs: sla.tpotMs ?? defaults.tpotMs,
    deadlineMs: request.deadlineMs > 0 ? request.deadlineMs : (sla.deadlineMs ?? Number.POSITIVE_INFINITY),
    maxCostNano: request.maxCostNanoUsd > 0n ? Number(request.maxCostNanoUsd) : Number.POSITIVE_INFINITY,
  };
}

/** What a request asks of a backend once its arm has changed it. What an arm changes in a chat has no place in other requests. */
export function demandOf(
  request: DecideRequest,
  model: CompiledModel,
  assignment: Assignment | undefined,
): Pick<Resolved, "needs" | "inputTokens" | "maxOutputTokens"> {
  const isEmbeddings = request.operation === Operation.EMBEDDINGS;
  const effect = assignment === undefined || isEmbeddings ? NO_EFFECT : assignment.arm.effect;
  return {
    needs: request.needs | model.requires | (isEmbeddings ? EMBEDDINGS_BIT : 0) | (effect.needsSchema ? SCHEMA_BIT : 0),
    inputTokens: request.inputTokens + effect.inputTokens,
    maxOutputTokens: effect.maxOutputTokens ?? request.maxOutputTokens,
  };
}

function isAllowed(allowed: ReadonlySet<string> | undefined, model: CompiledModel, asked: string): boolean {
  if (allowed === undefined || allowed.has(asked)) return true;
  for (const name of model.names) if (allowed.has(name)) return true;
  return false;
}

/** Longest part of the caller's text repeated in a message. */
const QUOTED_CHARS = 100;

function unknownModel(asked: string, snapshot: PolicySnapshot): Denial {
  const near = nearest(asked, snapshot.models.keys());
  const hint = near === undefined ? "" : `; did you mean '${near}'?`;
  return deny("MODEL_UNKNOWN", `The model '${asked.slice(0, QUOTED_CHARS)}' does not exist${hint}`, { param: "model" });
}

function notAllowed(asked: string, who: string): Denial {
  return deny("POLICY_DENIED", `The model '${asked.slice(0, QUOTED_CHARS)}' is not allowed for ${who}`, { param: "model" });
}

/** Builds a denial. */
export function deny(reason: Reason, detail: string, more: Partial<Omit<Denial, "reason" | "detail">> = {}): Denial {
  return { reason, detail, param: more.param ?? "", code: more.code ?? "", retryAfterMs: more.retryAfterMs ?? 0 };
}

/** Whom service is charged to: what the gateway asks by itself must not cost the client whose request it is about its turn. */
export function accountOf(request: DecideRequest): string {
  return request.role === "" ? request.tenant : SYSTEM_ACCOUNT;
}
