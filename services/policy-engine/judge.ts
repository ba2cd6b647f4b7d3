import { Operation } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { type CostEstimate, estimate, saturation, shadowNano } from "./cost.ts";
import { isStatistical, judgeHard, judgeHealth, judgeRate, OUT, type Out } from "./filter.ts";
import { BackendRates } from "./backend-rates.ts";
import { isKnown } from "./learn.ts";
import { type Follow, followOf } from "./leaders.ts";
import type { LengthEstimate } from "./lengths.ts";
import { stallOf } from "./pace-guard.ts";
import { createTable, pick, type PickTable, type PickWeights, STANDING } from "./pick.ts";
import { BLOCKS_MAX, readKeys, tokensOf } from "./prefix-cache.ts";
import { emptyPrediction, predict, type Prediction } from "./predict.ts";
import { accountOf, type Resolved, type SchedulingClass } from "./resolve.ts";
import { hasRoom } from "./room.ts";
import type { CompiledBackend, PolicySnapshot } from "./snapshot.ts";
import type { BackendState, EngineState } from "./state.ts";

/** Now, on both clocks, ms. */
export interface Moment {
  readonly monoMs: number;
  readonly wallMs: number;
}

/** Share of the targets that predictions must stay within, and what a second late is worth in nano-USD, by class. */
const HEADROOM: Readonly<Record<SchedulingClass, number>> = { system: 1, interactive: 0.9, standard: 1, batch: 1 };
const LATE_NANO: Readonly<Record<SchedulingClass, number>> = { system: 5e5, interactive: 2e6, standard: 5e5, batch: 1e4 };

/** How long a half-open backend waits for a request of a more patient class before this class is its trial, ms. */
const TRIAL_PATIENCE_MS: Readonly<Record<SchedulingClass, number>> = { system: 0, batch: 0, standard: 1_000, interactive: 2_500 };

/** With every breaker open, one request in this long is tried all the same, ms: an outage must not outlive its cause. */
const LAST_RESORT_EVERY_MS = 3_000;

/** Share of the prompt that a prefix's holder must hold to be compared in any case. */
export const HOLDER_SHARE = 0.1;

/** A backend nothing was learned of for this long is idle, ms: what is known of one in use needs no exploring. */
const IDLE_AFTER_MS = 5_000;

/** In-flight quota of a backend with too few observations. */
const UNCERTAIN_IN_FLIGHT = 2;

/** Steps of the verdict, in the order of judging; the last one that left a candidate. */
export type Step = "hard" | "rate" | "health" | "chosen";

/** How a request is looked at. */
export interface DecideOptions {
  /** All the chance there is in it. */
  readonly seed: number;
  /** Whether to list the ruled-out candidates and the terms in the answer. */
  readonly explain: boolean;
  /** False for dry runs: they neither wait nor explore. */
  readonly live: boolean;
  /** How far the class's ceiling is raised this once: 1 = away, as it waited long or is below its guaranteed share; 0 = not at all. */
  readonly lift: number;
  /** Until when it may wait for answers that its prompt would make late, ms; by default not at all. */
  readonly patientUntilMs?: number;
}

/** What judging left in the scratch arrays, by candidate position in the model's list. Valid until the next call. */
export interface Judgement {
  readonly count: number;
  /** First step that left nobody; `chosen` when some are left. */
  step: Step;
  /** True when all that are left are at their limits: the request waits. */
  mustWait: boolean;
  /** True when some of them are only kept clear of this tenant: others need not wait behind it. */
  held: boolean;
  /** True when it waits only for answers that its prompt would make late. */
  patient: boolean;
  /** Candidates in `table.order`. */
  ordered: number;
  weights: PickWeights;
  lengths: LengthEstimate;
}

/** Judges requests against snapshot and state. Owns scratch arrays that grow to the largest candidate set and are used again and again. */
export class Judge {
  table: PickTable = createTable(16);
  out: Uint8Array = new Uint8Array(16);
  ttftP90Ms: Float64Array = new Float64Array(16);
  averageNano: Float64Array = new Float64Array(16);
  predictions: Prediction[] = Array.from({ length: 16 }, emptyPrediction);
  /** By candidate: whose first token it does well to wait for there. */
  readonly follows: (Follow | undefined)[] = [];
  readonly #cost: CostEstimate = { averageNano: 0, upperNano: 0, unpriced: false, rented: false };
  readonly #input = { inputTokens: 0, outputTokens: 0, watched: false };
  readonly #costInput = { uncachedTokens: 0, cachedTokens: 0, outputTokens: 0, outputP90: 0 };
  readonly #keys = new Float64Array(BLOCKS_MAX);
  readonly #prices = new BackendRates();
  #rented: Uint8Array = new Uint8Array(16);
  #held = false;
  /** Candidates that got past each step. */
  #pastHard = 0;
  #pastRate = 0;
  #pastHealth = 0;

  /** Filter, predict, pick. Dry runs do not explore. */
  judge(resolved: Resolved, snapshot: PolicySnapshot, state: EngineState, now: Moment, options: DecideOptions): Judgement {
    const { candidates } = resolved.model;
    const count = candidates.length;
    this.#reserve(count);
    const lengths = state.lengths.estimate(resolved.request.tenant, resolved.request.templateHash, resolved.model.name);
    const weights = weightsOf(resolved);
    const judgement: Judgement = { count, step: "hard", mustWait: false, held: false, patient: false, ordered: 0, weights, lengths };
    this.#sift(resolved, snapshot, state, now, lengths);
    if (this.#pastHard === 0) return judgement;
    judgement.step = "rate";
    if (this.#pastRate === 0) return judgement;
    judgement.step = "health";
    if (this.#pastHealth === 0 && this.#readmit(resolved, state) === 0) {
      if (!this.#lastResort(resolved, state, now.monoMs)) return judgement;
    } else {
      judgement.mustWait = this.#standing(resolved, snapshot, state, now.monoMs, options.lift);
      judgement.held = this.#held;
    }
    judgement.step = "chosen";
    this.#price(resolved, state);
    this.table.outputTokens = outputTokens(resolved, lengths.p50);
    this.table.sampled = state.loadsStale;
    this.table.holder = state.loadsStale ? this.#holder(resolved) : -1;
    judgement.ordered = pick(this.table, weights, options.seed, options.live);
    const { patientUntilMs = 0 } = options;
    if (!judgement.mustWait && judgement.ordered > 0 && patientUntilMs > now.monoMs) {
      judgement.patient = this.#makesLate(resolved, snapshot, state, now.monoMs, patientUntilMs);
      judgement.mustWait = judgement.patient;
    }
    return judgement;
  }

  /** Whether the best candidate had better be left to the answers it runs: the prompt comes a moment later. */
  #makesLate(resolved: Resolved, snapshot: PolicySnapshot, state: EngineState, nowMs: number, untilMs: number): boolean {
    const best = this.table.order[0]!;
    const index = resolved.model.candidates[best]!;
    const backend = snapshot.backends[index]!;
    const running = state.backends[index]!;
    if (!backend.structural || running.paces.size === 0 || this.table.standing[best]! > STANDING.uncertain) return false;
    return running.paces.forbids(stallOf(backend, running, this.predictions[best]!.uncachedTokens), nowMs, untilMs);
  }

  #reserve(count: number): void {
    this.table.count = count;
    if (count <= this.out.length) return;
    this.table = createTable(count);
    this.table.count = count;
    this.out = new Uint8Array(count);
    this.ttftP90Ms = new Float64Array(count);
    this.averageNano = new Float64Array(count);
    this.#rented = new Uint8Array(count);
    while (this.predictions.length < count) this.predictions.push(emptyPrediction());
  }

  /**
   * Puts every candidate through the steps and predicts who fits. First what holds whatever the load (capability, context, rules, price
   * and cost), then the providers' limits, then health: what a candidate fails is the step it does not get past.
   */
  #sift(resolved: Resolved, snapshot: PolicySnapshot, state: EngineState, now: Moment, lengths: LengthEstimate): void {
    const { candidates } = resolved.model;
    const input = this.#input;
    const costInput = this.#costInput;
    const cost = this.#cost;
    input.inputTokens = resolved.inputTokens;
    input.outputTokens = outputTokens(resolved, lengths.p50);
    input.watched = resolved.request.stream && (resolved.class === "interactive" || resolved.class === "system");
    const choices = Math.max(1, resolved.request.choices);
    costInput.outputTokens = choices * input.outputTokens;
    costInput.outputP90 = choices * outputTokens(resolved, lengths.p90);
    const rejectUnpriced = snapshot.prices.version !== "" && snapshot.prices.onUnknown === "reject";
    this.#prices.moveTo(snapshot, now.wallMs);
    const blocks = readKeys(resolved.request.prefixHashes, this.#keys);
    const { exclude } = resolved.request;
    this.#pastHard = this.#pastRate = this.#pastHealth = 0;
    for (let at = 0; at < candidates.length; at++) {
      const index = candidates[at]!;
      this.table.standing[at] = STANDING.out;
      let out: Out = judgeHard(snapshot, index, resolved);
      this.out[at] = out;
      if (out !== OUT.none) continue;
      const backend = snapshot.backends[index]!;
      const backendState = state.backends[index]!;
      const prediction = this.predictions[at]!;
      const held = blocks > 0 && backend.structural ? backendState.prefixes.held(this.#keys, blocks, now.monoMs) : 0;
      this.follows[at] = undefined;
      if (held > 0 && backend.leadsFirst && backendState.leaders.size > 0) this.#lead(at, backend, backendState, blocks, held, now.monoMs);
      else predict(prediction, backend, backendState, input, tokensOf(held), now.monoMs);
      costInput.uncachedTokens = prediction.uncachedTokens;
      costInput.cachedTokens = resolved.inputTokens - prediction.uncachedTokens;
      estimate(cost, this.#prices.of(index, resolved.inputTokens), backend, backendState, costInput);
      this.averageNano[at] = cost.averageNano;
      this.#rented[at] = cost.rented ? 1 : 0;
      this.table.gateMs[at] = prediction.gateMs;
      this.table.tpotMs[at] = prediction.tpotMs;
      this.table.scoreMs[at] = prediction.scoreMs;
      this.table.idle[at] = now.monoMs - backendState.learnedAtMs > IDLE_AFTER_MS ? 1 : 0;
      this.ttftP90Ms[at] = prediction.ttftP90Ms;
      if (cost.unpriced && rejectUnpriced) out = OUT.price;
      else if (cost.upperNano > resolved.maxCostNano) out = OUT.cost;
      else {
        const tried = exclude.length > 0 && exclude.includes(backend.name);
        out = this.#usable(resolved, snapshot, backendState, index, tried, now.monoMs);
      }
      this.out[at] = out;
    }
  }

  /** The steps that change from moment to moment, for one candidate that is past the others. */
  #usable(resolved: Resolved, snapshot: PolicySnapshot, state: BackendState, index: number, tried: boolean, nowMs: number): Out {
    this.#pastHard++;
    const rate = judgeRate(state, resolved, nowMs);
    if (rate !== OUT.none) return rate;
    this.#pastRate++;
    const health = judgeHealth(snapshot, state, index, tried, nowMs);
    if (health === OUT.none) this.#pastHealth++;
    return health;
  }

  /** Predicts a candidate that is computing the beginning of this prompt for another: with the wait for it, or without what it computes. */
  #lead(at: number, backend: CompiledBackend, state: BackendState, blocks: number, held: number, nowMs: number): void {
    const ready = state.leaders.ready(this.#keys, blocks, held);
    const follow = ready === held ? undefined : followOf(backend, state, this.#keys, blocks, ready, nowMs);
    this.follows[at] = follow;
    const cachedTokens = follow?.cachedTokens ?? tokensOf(ready);
    predict(this.predictions[at]!, backend, state, this.#input, cachedTokens, nowMs, follow);
  }

  /** Statistics never leave a request without anybody: a backend ejected for its pace while its breaker is closed is better than none. */
  #readmit(resolved: Resolved, state: EngineState): number {
    let left = 0;
    for (let at = 0; at < this.table.count; at++) {
      if (this.out[at] !== OUT.ejected || !isStatistical(state.backends[resolved.model.candidates[at]!]!)) continue;
      this.out[at] = OUT.none;
      left++;
    }
    return left;
  }

  /**
   * Every breaker is open: once in a while a fresh request becomes the trial of the one open longest, whatever its time. A request
   * that has failed already does not, nor any while another trial runs. Returns whether there is a candidate.
   */
  #lastResort(resolved: Resolved, state: EngineState, nowMs: number): boolean {
    if (resolved.request.exclude.length > 0) return false;
    let best = -1;
    let bestSinceMs = Number.POSITIVE_INFINITY;
    for (let at = 0; at < this.table.count; at++) {
      if (this.out[at] === OUT.trial) return false;
      if (this.out[at] !== OUT.breaker) continue;
      const breaker = state.backends[resolved.model.candidates[at]!]!.breaker.state(nowMs);
      if (nowMs - breaker.sinceMs < LAST_RESORT_EVERY_MS) return false;
      if (breaker.sinceMs >= bestSinceMs) continue;
      best = at;
      bestSinceMs = breaker.sinceMs;
    }
    if (best < 0) return false;
    this.out[best] = OUT.none;
    this.table.standing[best] = STANDING.trial;
    return true;
  }

  /** Sets who is free, busy, uncertain or on trial. Returns true when nobody can take the request now. */
  #standing(resolved: Resolved, snapshot: PolicySnapshot, state: EngineState, nowMs: number, lift: number): boolean {
    const { candidates } = resolved.model;
    const { standing } = this.table;
    let usable = 0;
    let full = 0;
    let trial = -1;
    this.#held = false;
    const account = accountOf(resolved.request);
    const holdsBack = state.shares.holdsBack(resolved.model.name, account);
    for (let at = 0; at < candidates.length; at++) {
      if (this.out[at] !== OUT.none) continue;
      const index = candidates[at]!;
      const backend = state.backends[index]!;
      if (backend.breaker.state(nowMs).kind === "half_open") {
        trial = at;
        standing[at] = STANDING.trial;
        continue;
      }
      if (!hasRoom(snapshot.backends[index]!, backend, resolved.class, snapshot, lift, nowMs)) {
        standing[at] = STANDING.busy;
        full++;
        continue;
      }
      if (holdsBack && backend.load >= state.shares.mostFor(resolved.model.name, account, index)) {
        standing[at] = STANDING.busy;
        this.#held = true;
        if (!state.shares.isClear(resolved.model.name, index)) full++;
        continue;
      }
      usable++;
      standing[at] = freeStanding(backend, nowMs);
    }
    if (this.#held && usable + full === 0 && trial < 0) return this.#letIn(resolved, state, nowMs);
    return trial >= 0 ? this.#settleTrials(resolved, state, nowMs, usable) : usable === 0;
  }

  /** All that can serve it is kept clear of its tenant: then it is not, or the request would wait for nothing. */
  #letIn(resolved: Resolved, state: EngineState, nowMs: number): boolean {
    for (let at = 0; at < this.table.count; at++) {
      if (this.out[at] === OUT.none) this.table.standing[at] = freeStanding(state.backends[resolved.model.candidates[at]!]!, nowMs);
    }
    return (this.#held = false);
  }

  /** One half-open backend at most becomes the trial, and only for a class patient enough, unless it is all there is. */
  #settleTrials(resolved: Resolved, state: EngineState, nowMs: number, usable: number): boolean {
    const { standing, count } = this.table;
    let given = false;
    let left = usable;
    for (let at = 0; at < count; at++) {
      if (standing[at] !== STANDING.trial) continue;
      const breaker = state.backends[resolved.model.candidates[at]!]!.breaker.state(nowMs);
      const patient = nowMs - breaker.sinceMs >= TRIAL_PATIENCE_MS[resolved.class];
      if (!given && (patient || usable === 0)) {
        given = true;
        left++;
      } else {
        standing[at] = STANDING.out;
        this.out[at] = OUT.trial;
      }
    }
    return left === 0;
  }

  /** Half-open candidates that nobody tries, besides the one the last judgement chose. */
  freeTrials(resolved: Resolved, state: EngineState, nowMs: number): number {
    let free = 0;
    for (let at = 0; at < this.table.count; at++) {
      if (this.out[at] === OUT.trial && state.backends[resolved.model.candidates[at]!]!.breaker.canAdmit(nowMs)) free++;
    }
    return free;
  }

  /** The candidate with the most of the prompt in its cache, if that is worth anything. */
  #holder(resolved: Resolved): number {
    let best = -1;
    let saved = HOLDER_SHARE * resolved.inputTokens;
    for (let at = 0; at < this.table.count; at++) {
      const cached = resolved.inputTokens - this.predictions[at]!.uncachedTokens;
      if (this.out[at] !== OUT.none || cached < saved || cached === 0) continue;
      best = at;
      saved = cached + 1;
    }
    return best;
  }

  /** Marginal costs, in whole nano-USD so that a record gives them back exactly. */
  #price(resolved: Resolved, state: EngineState): void {
    const { candidates } = resolved.model;
    let cheapestCloud = Number.POSITIVE_INFINITY;
    for (let at = 0; at < candidates.length; at++) {
      if (this.out[at] === OUT.none && this.#rented[at] === 0) cheapestCloud = Math.min(cheapestCloud, this.averageNano[at]!);
    }
    for (let at = 0; at < candidates.length; at++) {
      if (this.out[at] !== OUT.none) continue;
      let marginal = this.averageNano[at]!;
      if (this.#rented[at] === 1) {
        const backend = state.backends[candidates[at]!]!;
        const sat = saturation(backend, this.predictions[at]!, resolved.ttftTargetMs, resolved.tpotTargetMs);
        marginal = cheapestCloud === Number.POSITIVE_INFINITY ? 0 : shadowNano(cheapestCloud, sat);
      }
      this.table.marginalNano[at] = Math.round(marginal);
    }
  }
}

/** How a backend with room stands: by how much is known of it. */
function freeStanding(backend: BackendState, nowMs: number): number {
  if (isKnown(backend, nowMs)) return STANDING.free;
  return backend.inFlight >= UNCERTAIN_IN_FLIGHT ? STANDING.uncertain : STANDING.fresh;
}

/** What lateness is held against, by class. */
function weightsOf(resolved: Resolved): PickWeights {
  return {
    ttftTargetMs: resolved.ttftTargetMs,
    tpotTargetMs: resolved.tpotTargetMs,
    headroom: HEADROOM[resolved.class],
    nanoPerLateSecond: LATE_NANO[resolved.class],
  };
}

/** Weights of a recorded decision, for its replay. */
export function recordedWeights(className: SchedulingClass, ttftTargetMs: number, tpotTargetMs: number): PickWeights {
  return {
    ttftTargetMs: ttftTargetMs > 0 ? ttftTargetMs : Number.POSITIVE_INFINITY,
    tpotTargetMs: tpotTargetMs > 0 ? tpotTargetMs : Number.POSITIVE_INFINITY,
    headroom: HEADROOM[className],
    nanoPerLateSecond: LATE_NANO[className],
  };
}

/** An output estimate under the caller's limit; embeddings have no output. */
export function outputTokens(resolved: Resolved, estimated: number): number {
  if (resolved.request.operation === Operation.EMBEDDINGS) return 0;
  return resolved.maxOutputTokens > 0 ? Math.min(resolved.maxOutputTokens, estimated) : estimated;
}
