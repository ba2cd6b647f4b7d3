import type { Candidate, DecideRequest, Decision } from "#gen/signalbox/policy/v1/policy_pb.ts";
import {
  allowedCandidates,
  type AnswerContext,
  decisionOf,
  denialOf,
  excludedCandidates,
  setDenial,
  termsOf,
  withoutRoom,
} from "./answer.ts";
import { reasonsOf } from "#libs/capability/index.ts";
import type { Assignment } from "./experiments.ts";
import { type DecideOptions, Judge, type Judgement, type Moment } from "./judge.ts";
import type { Follow } from "./leaders.ts";
import type { TtftBasis } from "./learn.ts";
import { demandOf, type Denial, isDenial, resolve, type Resolved } from "./resolve.ts";
import type { PolicySnapshot } from "./snapshot.ts";
import type { BackendState, EngineState } from "./state.ts";

/** What a decision was made from, kept for its record. */
export interface Evidence {
  readonly request: DecideRequest;
  readonly decision: Decision;
  /** Ruled-out candidates with their reasons. */
  readonly excluded: readonly Candidate[];
  /** TERMS of the allowed candidates, in their order. */
  readonly terms: readonly number[];
  readonly decidedAtMs: number;
  /** The policy it was made under. */
  readonly made: Pick<PolicySnapshot, "config" | "control">;
  /** The backends of the experiment's other arms as they would have been judged; undefined without an experiment, or for dry runs. */
  readonly others: Others | undefined;
}

/** Judged, but not for this request's arm. */
interface Others {
  readonly candidates: readonly Candidate[];
  readonly terms: readonly number[];
  readonly excluded: readonly Candidate[];
}

/** What an allowed request takes up at its first candidate. */
export interface Reservation {
  readonly backend: BackendState;
  readonly index: number;
  readonly inputTokens: number;
  readonly uncachedTokens: number;
  /** Expected. */
  readonly outputTokens: number;
  readonly predictedTtftMs: number;
  /** Whose first token it does well to wait for; undefined = it goes at once. */
  readonly follow: Follow | undefined;
}

/** The outcome of one look at a request. */
export type Verdict =
  | { readonly kind: "decided"; readonly evidence: Evidence; readonly reservation: Reservation | undefined }
  | { readonly kind: "wait"; readonly resolved: Resolved; readonly held: boolean; readonly patient: boolean };

const NO_TERMS: readonly number[] = [];

/** Refusals for want of room. */
const QUEUE_REASONS: ReadonlySet<string> = new Set(["QUEUE_FULL", "DEADLINE_EXCEEDED"]);
const AS_IT_STANDS: DecideOptions = { seed: 0, explain: true, live: false, lift: 0 };

/** Makes decisions: filter, predict, pick over (request, snapshot, state, now, seed). Keeps nothing but scratch memory. */
export class Engine {
  readonly #id: string;
  readonly #judge = new Judge();
  /** For the other arms of an experiment: what the first one found is still needed. */
  readonly #spare = new Judge();

  constructor(id: string) {
    this.#id = id;
  }

  /** Decides on a request. Changes nothing in `state`: the caller reserves what the verdict names. */
  decide(request: DecideRequest, snapshot: PolicySnapshot, state: EngineState, now: Moment, options: DecideOptions): Verdict {
    const resolved = resolve(request, snapshot);
    if (!isDenial(resolved)) return this.decideResolved(resolved, snapshot, state, now, options);
    return decided(this.refuse(request, snapshot, state, resolved, now), undefined);
  }

  /** The decision that carries a denial found elsewhere; one of the queue says of every candidate why it had no room. */
  refuse(request: DecideRequest, snapshot: PolicySnapshot, state: EngineState, denial: Denial, now: Moment): Evidence {
    const resolved = QUEUE_REASONS.has(denial.reason) ? resolve(request, snapshot) : denial;
    if (isDenial(resolved)) {
      const plain = setDenial(decisionOf(this.#id, snapshot, request.decisionId, 0, undefined), denial);
      return evidenceOf(request, plain, [], NO_TERMS, now.wallMs, snapshot, undefined);
    }
    const judgement = this.#judge.judge(resolved, snapshot, state, now, AS_IT_STANDS);
    const excluded = withoutRoom({ judge: this.#judge, judgement, resolved, snapshot, state, nowMs: now.monoMs });
    const decision = decisionOf(this.#id, snapshot, request.decisionId, 0, resolved);
    decision.excluded = excluded;
    setDenial(decision, { ...denial, detail: `${denial.detail}: ${reasonsOf(excluded)}` });
    return evidenceOf(request, decision, excluded, NO_TERMS, now.wallMs, snapshot, undefined);
  }

  /** The same for a request resolved before, as when it waited. */
  decideResolved(resolved: Resolved, snapshot: PolicySnapshot, state: EngineState, now: Moment, options: DecideOptions): Verdict {
    const judgement = this.#judge.judge(resolved, snapshot, state, now, options);
    if (judgement.mustWait && options.live) return { kind: "wait", resolved, held: judgement.held, patient: judgement.patient };
    const { assignment } = resolved;
    if (judgement.ordered === 0 && assignment !== undefined && fallsBack(resolved.request, assignment)) {
      return this.#fallBack(resolved, assignment, judgement, snapshot, state, now, options);
    }
    const context: AnswerContext = { judge: this.#judge, judgement, resolved, snapshot, state, nowMs: now.monoMs };
    const { request } = resolved;
    const decision = decisionOf(this.#id, snapshot, request.decisionId, options.seed, resolved);
    const excluded = excludedCandidates(context);
    const others = options.live ? this.#others(resolved, snapshot, state, now, options) : undefined;
    if (judgement.ordered === 0) {
      decision.excluded = excluded;
      setDenial(decision, denialOf(context, excluded));
      return decided(evidenceOf(request, decision, excluded, NO_TERMS, now.wallMs, snapshot, others), undefined);
    }
    const candidates = allowedCandidates(context, options.explain ? Number.POSITIVE_INFINITY : decision.maxAttempts);
    if (candidates.length === 1 && candidates[0]!.standing === "trial") {
      // Nobody but trials is left: each free one is worth a try, and none is worth a second.
      decision.maxAttempts = Math.min(decision.maxAttempts, 1 + this.#judge.freeTrials(resolved, state, now.monoMs));
    }
    decision.result = { case: "allow", value: { $typeName: "signalbox.policy.v1.Allow", candidates } };
    if (options.explain) decision.excluded = excluded;
    const terms = termsOf(context, candidates.length);
    return decided(evidenceOf(request, decision, excluded, terms, now.wallMs, snapshot, others), this.#reservation(context));
  }

  /** An arm that has nobody for a request gives it to the control arm; its own candidates stand among the excluded, with their reasons. */
  #fallBack(
    resolved: Resolved,
    assignment: Assignment,
    judgement: Judgement,
    snapshot: PolicySnapshot,
    state: EngineState,
    now: Moment,
    options: DecideOptions,
  ): Verdict {
    const ruledOut = excludedCandidates({ judge: this.#judge, judgement, resolved, snapshot, state, nowMs: now.monoMs });
    const { experiment } = assignment;
    const { control } = experiment;
    const own = { experiment, arm: control };
    const verdict = this.decideResolved(
      { ...resolved, ...demandOf(resolved.request, control.model, own), model: control.model, assignment: own },
      snapshot,
      state,
      now,
      options,
    );
    if (verdict.kind === "wait") return { ...verdict, resolved };
    for (const candidate of ruledOut) candidate.excluded!.detail = `arm ${assignment.arm.name}: ${candidate.excluded!.detail}`;
    const { evidence } = verdict;
    evidence.decision.excluded = [...evidence.decision.excluded, ...ruledOut];
    return { ...verdict, evidence: { ...evidence, excluded: [...evidence.excluded, ...ruledOut] } };
  }

  /** Judges the other arms' backends, for the record: what would other weights have done? */
  #others(resolved: Resolved, snapshot: PolicySnapshot, state: EngineState, now: Moment, options: DecideOptions): Others | undefined {
    const { assignment } = resolved;
    if (assignment === undefined || assignment.arm.others.length === 0 || snapshot.config.telemetry.decisions.share === 0) return undefined;
    const judged = { ...resolved, model: { ...resolved.model, candidates: assignment.arm.others } };
    const judgement = this.#spare.judge(judged, snapshot, state, now, { ...options, live: false });
    const context: AnswerContext = { judge: this.#spare, judgement, resolved: judged, snapshot, state, nowMs: now.monoMs };
    const candidates = judgement.ordered === 0 ? [] : allowedCandidates(context, Number.POSITIVE_INFINITY);
    return { candidates, terms: termsOf(context, candidates.length), excluded: excludedCandidates(context) };
  }

  #reservation(context: AnswerContext): Reservation {
    const { judge, resolved, state } = context;
    const at = judge.table.order[0]!;
    const index = resolved.model.candidates[at]!;
    const prediction = judge.predictions[at]!;
    return {
      backend: state.backends[index]!,
      index,
      inputTokens: resolved.inputTokens,
      uncachedTokens: prediction.uncachedTokens,
      outputTokens: judge.table.outputTokens,
      predictedTtftMs: prediction.ttftMs,
      follow: judge.follows[at],
    };
  }
}

/** A copy goes to its arm or nowhere: the control arm has answered already. */
function fallsBack(request: DecideRequest, assignment: Assignment): boolean {
  return assignment.arm !== assignment.experiment.control && request.role !== "shadow";
}

function evidenceOf(
  request: DecideRequest,
  decision: Decision,
  excluded: readonly Candidate[],
  terms: readonly number[],
  decidedAtMs: number,
  made: Evidence["made"],
  others: Others | undefined,
): Evidence {
  return { request, decision, excluded, terms, decidedAtMs, made, others };
}

function decided(evidence: Evidence, reservation: Reservation | undefined): Verdict & { readonly kind: "decided" } {
  return { kind: "decided", evidence, reservation };
}

/** What is ahead of a request about to be sent to `backend`. */
export function basisOf(backend: BackendState, inputTokens: number, uncachedTokens: number, predictedTtftMs: number): TtftBasis {
  return {
    prefillAhead: backend.prefillTokens + backend.peerPrefillTokens,
    uncachedTokens,
    inputTokens,
    load: backend.load,
    context: backend.contextTokens + backend.peerContextTokens,
    predictedTtftMs,
  };
}
