import { type Candidate, type Decision, MidStream, Operation } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { paramAtFault, reasonsOf } from "#libs/capability/index.ts";
import type { Config } from "#libs/config/index.ts";
import { type CompiledArm, shadowArm } from "./experiments.ts";
import { describe, describeRoom, OUT, type Out, rateWaitMs } from "./filter.ts";
import { hedgeAfterMs } from "./hedge.ts";
import type { Judge, Judgement } from "./judge.ts";
import { outputTokens } from "./judge.ts";
import { STANDING, STANDING_WORDS } from "./pick.ts";
import { type Denial, deny, type Resolved } from "./resolve.ts";
import type { PolicySnapshot } from "./snapshot.ts";
import type { EngineState } from "./state.ts";

/** Candidates in an answer, beside the attempts allowed: more would never be tried. */
const CANDIDATES_MIN = 8;

/** The adaptive first-token time-out: this many 90th percentiles, and never less than the floor, ms. */
const FIRST_TOKEN_FACTOR = 3;
const FIRST_TOKEN_FLOOR_MS = 2_000;

/** Retry-After where nothing better is known, ms. */
const RETRY_AFTER_MS = 1_000;
const RETRY_AFTER_MAX_MS = 60_000;

/** Body `priority` for engines that take one: lower goes first. */
const ENGINE_PRIORITY = { system: 0, interactive: 1, standard: 2, batch: 10 } as const;

const NO_BYTES = new Uint8Array(0);
const NO_TERMS = {};

/** Terms of one candidate as they are kept with a record, in this order. */
export const TERMS = [
  "ttft",
  "decode",
  "externality",
  "swap",
  "bias",
  "gate",
  "ttft_p90",
  "saved",
  "output",
  "sampled",
  "idle",
  "leader",
] as const;

/** Everything answers are built from. */
export interface AnswerContext {
  readonly judge: Judge;
  readonly judgement: Judgement;
  readonly resolved: Resolved;
  readonly snapshot: PolicySnapshot;
  readonly state: EngineState;
  readonly nowMs: number;
}

/** A decision without its result. */
export function decisionOf(
  engine: string,
  snapshot: PolicySnapshot,
  decisionId: string,
  seed: number,
  resolved: Resolved | undefined,
): Decision {
  const { config } = snapshot;
  const shadow = shadowFor(resolved);
  return {
    $typeName: "signalbox.policy.v1.Decision",
    decisionId,
    configVersion: config.configVersion,
    priceVersion: snapshot.prices.version,
    engine,
    model: resolved?.model.name ?? "",
    requestClass: resolved?.requestClass ?? 0,
    result: { case: undefined },
    stale: false,
    queueMs: 0,
    followedMs: 0,
    decideMs: 0,
    excluded: [],
    experiment: resolved?.assignment?.experiment.experiment.name ?? "",
    arm: resolved?.assignment?.arm.name ?? "",
    experimentRevision: resolved?.assignment?.experiment.revision ?? 0n,
    midStream: resolved?.model.midStream === "resume" ? MidStream.RESUME : MidStream.ERROR,
    maxAttempts: attemptsOf(config, resolved),
    deadlineMs: resolved === undefined ? 0 : finiteOrZero(resolved.deadlineMs),
    requestChange: requestChangeOf(resolved),
    seed,
    shadowExperiment: shadow === undefined ? "" : resolved!.assignment!.experiment.experiment.name,
    shadowCandidates: [],
    shadowArm: shadow?.name ?? "",
    ttftTargetMs: resolved === undefined ? 0 : finiteOrZero(resolved.ttftTargetMs),
    tpotTargetMs: resolved === undefined ? 0 : finiteOrZero(resolved.tpotTargetMs),
  };
}

/** The arm that gets a copy. Only of chats: they are what answers can be compared of. Copies are not copied again. */
function shadowFor(resolved: Resolved | undefined): CompiledArm | undefined {
  if (resolved?.assignment === undefined || resolved.request.role !== "" || resolved.request.operation === Operation.EMBEDDINGS)
    return undefined;
  return shadowArm(resolved.assignment, resolved.request.decisionId);
}

/** A copy is tried once: its failure is what is to be learnt. */
function attemptsOf(config: Config, resolved: Resolved | undefined): number {
  if (resolved === undefined) return 0;
  if (resolved.request.role === "shadow") return 1;
  return config.resilience.attempts[resolved.class === "system" ? "standard" : resolved.class];
}

function requestChangeOf(resolved: Resolved | undefined): Uint8Array<ArrayBuffer> {
  if (resolved?.assignment === undefined || resolved.request.operation === Operation.EMBEDDINGS) return NO_BYTES;
  return resolved.assignment.arm.requestChange as Uint8Array<ArrayBuffer>;
}

function finiteOrZero(value: number): number {
  return Number.isFinite(value) ? value : 0;
}

/** The chosen candidates, best first; `maxAttempts` of them at the least. */
export function allowedCandidates(context: AnswerContext, maxAttempts: number): Candidate[] {
  const { judge, judgement, resolved } = context;
  const count = Math.min(judgement.ordered, Math.max(CANDIDATES_MIN, maxAttempts));
  const feasible = countFeasible(judge, judgement.ordered);
  const candidates: Candidate[] = [];
  for (let place = 0; place < count; place++) {
    const at = judge.table.order[place]!;
    const candidate = candidateAt(context, at);
    const others = feasible - (isFeasible(judge, at) ? 1 : 0);
    candidate.firstTokenTimeoutMs = firstTokenTimeoutMs(context, at, others > 0);
    if (context.snapshot.hardBudgets.has(resolved.request.tenant) && resolved.maxOutputTokens === 0) {
      candidate.maxOutputTokens = context.snapshot.backends[resolved.model.candidates[at]!]!.config.maxOutputTokens;
    }
    candidates.push(candidate);
  }
  if (context.state.hedges.isOpen) candidates[0]!.hedgeAfterMs = hedgeAfterMs(context);
  return candidates;
}

function countFeasible(judge: Judge, ordered: number): number {
  let count = 0;
  for (let place = 0; place < ordered; place++) if (isFeasible(judge, judge.table.order[place]!)) count++;
  return count;
}

function isFeasible(judge: Judge, at: number): boolean {
  return judge.table.feasible[at] === 1 && judge.table.standing[at]! <= STANDING.fresh;
}

/** The configured time-out is a ceiling; the adaptive one holds only while another candidate can take over. */
function firstTokenTimeoutMs(context: AnswerContext, at: number, another: boolean): number {
  const { judge, judgement, resolved, snapshot } = context;
  const ceiling = snapshot.config.resilience.timeouts.firstTokenMs;
  const adaptive = Math.max(FIRST_TOKEN_FACTOR * judge.ttftP90Ms[at]!, FIRST_TOKEN_FLOOR_MS);
  const first = another ? Math.min(ceiling, adaptive) : ceiling;
  return resolved.request.stream ? first : first + outputTokens(resolved, judgement.lengths.p90) * judge.table.tpotMs[at]!;
}

/** One candidate with the terms it was judged by. */
export function candidateAt(context: AnswerContext, at: number): Candidate {
  const { judge, resolved, snapshot, state } = context;
  const index = resolved.model.candidates[at]!;
  const backend = snapshot.backends[index]!;
  const backendState = state.backends[index]!;
  const prediction = judge.predictions[at]!;
  const predicted = judge.out[at] === OUT.none || judge.out[at]! >= OUT.price;
  const costNano = predicted ? Math.round(judge.averageNano[at]!) : 0;
  const marginalNano = judge.out[at] === OUT.none ? judge.table.marginalNano[at]! : 0;
  const costNanoUsd = costNano === 0 ? 0n : BigInt(costNano);
  return {
    $typeName: "signalbox.policy.v1.Candidate",
    backend: backend.name,
    predictedTtftMs: predicted ? prediction.ttftMs : 0,
    predictedTpotMs: predicted ? prediction.tpotMs : 0,
    costNanoUsd,
    marginalNanoUsd: marginalNano === 0 ? 0n : marginalNano === costNano ? costNanoUsd : BigInt(marginalNano),
    queue: backendState.engineQueue,
    inFlight: Math.ceil(backendState.inFlight + backendState.peerInFlight),
    score: predicted ? prediction.scoreMs : 0,
    excluded: undefined,
    firstTokenTimeoutMs: 0,
    upstreamModel: backend.config.model,
    provider: backend.config.provider,
    enginePriority: backend.config.enginePriority ? ENGINE_PRIORITY[resolved.class] : 0,
    enginePrioritySet: backend.config.enginePriority,
    hedgeAfterMs: 0,
    terms: NO_TERMS,
    maxOutputTokens: 0,
    standing: STANDING_WORDS[judge.table.standing[at]!]!,
  };
}

/** No integer, so that an array of it holds doubles from the beginning: one that becomes so, or grows, is copied. */
const NO_TERM = 0.5;
const blankTerms: number[] = [];

/** Terms of the first `count` candidates in order, TERMS.length numbers each. */
export function termsOf(context: AnswerContext, count: number): number[] {
  const { judge, resolved } = context;
  while (blankTerms.length < count * TERMS.length) blankTerms.push(NO_TERM);
  const terms = blankTerms.slice(0, count * TERMS.length);
  let to = 0;
  for (let place = 0; place < count; place++) {
    const at = judge.table.order[place]!;
    const prediction = judge.predictions[at]!;
    terms[to++] = prediction.ttftMs;
    terms[to++] = prediction.tpotMs * judge.table.outputTokens;
    terms[to++] = prediction.externalityMs;
    terms[to++] = prediction.swapMs;
    terms[to++] = prediction.biasMs;
    terms[to++] = prediction.gateMs;
    terms[to++] = prediction.ttftP90Ms;
    terms[to++] = resolved.inputTokens - prediction.uncachedTokens;
    terms[to++] = judge.table.outputTokens;
    terms[to++] = judge.table.sampled ? 1 : 0;
    terms[to++] = judge.table.idle[at]!;
    terms[to++] = prediction.leaderMs;
  }
  return terms;
}

/** Candidates that were ruled out, each with its reason. */
export function excludedCandidates(context: AnswerContext): Candidate[] {
  const { judge, judgement } = context;
  const excluded: Candidate[] = [];
  for (let at = 0; at < judgement.count; at++) if (judge.out[at] !== OUT.none) excluded.push(excludedAt(context, at));
  return excluded;
}

/** All candidates of a request that finds no room, the ruled-out ones too, each with its reason. */
export function withoutRoom(context: AnswerContext): Candidate[] {
  return Array.from({ length: context.judgement.count }, (_, at) => excludedAt(context, at));
}

/** One candidate with the reason why it does not serve the request now. */
function excludedAt(context: AnswerContext, at: number): Candidate {
  const { judge, resolved, snapshot, state, nowMs } = context;
  const index = resolved.model.candidates[at]!;
  const backendState = state.backends[index]!;
  const out = judge.out[at] as Out;
  const why =
    out === OUT.none
      ? describeRoom(judge.table.standing[at] === STANDING.busy, backendState, resolved.class, snapshot)
      : describe(out, snapshot.backends[index]!, backendState, snapshot, resolved, nowMs);
  const candidate = candidateAt(context, at);
  candidate.excluded = { $typeName: "signalbox.policy.v1.Exclusion", requirement: why.requirement, detail: why.detail };
  return candidate;
}

/** What an empty candidate set means (first empty step), with a reason per backend. */
export function denialOf(context: AnswerContext, excluded: readonly Candidate[]): Denial {
  const { judgement, resolved } = context;
  const list = reasonsOf(excluded);
  const name = resolved.model.name;
  switch (judgement.step) {
    case "hard":
      return deny("NO_CAPABLE_BACKEND", `No backend of model '${name}' can serve this request: ${list || "it has no candidates"}`, {
        param: paramAtFault(excluded),
      });
    case "rate":
      return deny("UPSTREAM_RATE_LIMITED", `Every backend of model '${name}' is rate limited: ${list}`, {
        retryAfterMs: retryAfterMs(context),
      });
    case "health":
      return deny("NO_BACKEND", `No backend of model '${name}' is available: ${list}`, { retryAfterMs: retryAfterMs(context) });
    case "chosen":
      throw new Error("a judgement with candidates left is no denial");
  }
}

/** Soonest moment at which one of them may come back, ms. */
function retryAfterMs(context: AnswerContext): number {
  const { judge, judgement, resolved, state, nowMs } = context;
  let soonest = Number.POSITIVE_INFINITY;
  for (let at = 0; at < judgement.count; at++) {
    const backend = state.backends[resolved.model.candidates[at]!]!;
    if (judge.out[at] === OUT.rateLimit) soonest = Math.min(soonest, rateWaitMs(backend, resolved, nowMs));
    if (judge.out[at] === OUT.breaker) {
      const breaker = backend.breaker.state(nowMs);
      if (breaker.kind === "open") soonest = Math.min(soonest, breaker.untilMs - nowMs);
    }
  }
  if (!Number.isFinite(soonest)) return RETRY_AFTER_MS;
  return Math.ceil(Math.min(RETRY_AFTER_MAX_MS, Math.max(RETRY_AFTER_MS, soonest)));
}

/** Sets a denial as the decision's result. */
export function setDenial(decision: Decision, denial: Denial): Decision {
  decision.result = {
    case: "deny",
    value: {
      $typeName: "signalbox.policy.v1.Deny",
      reason: denial.reason,
      detail: denial.detail,
      retryAfterMs: denial.retryAfterMs,
      param: denial.param,
      code: denial.code,
    },
  };
  return decision;
}
