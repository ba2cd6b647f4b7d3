import { type AttemptEnded, type AttemptReport, Operation, type RateLimitState } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Random } from "#libs/clock/index.ts";
import { Slots } from "#libs/live/index.ts";
import type { BreakerEvent } from "#libs/resilience/index.ts";
import { breakerEvent, copyEvent, SUCCESS } from "./breaker-event.ts";
import { callShare } from "./call-share.ts";
import { basisOf, type Evidence, type Reservation } from "./engine.ts";
import type { Hold, Holding, HoldingsListener, Preemptible } from "./holding.ts";
import { learnCensored, learnDispatch, learnGap, learnOutput, learnRefusal, learnTtft } from "./learn.ts";
import { judgeHard, OUT } from "./filter.ts";
import { followPace } from "./pace-guard.ts";
import { BLOCKS_MAX, readKeys } from "./prefix-cache.ts";
import { noSums } from "./request-sums.ts";
import { accountOf, type Resolved } from "./resolve.ts";
import type { CompiledBackend, PolicySnapshot } from "./snapshot.ts";
import type { BackendState, EngineState } from "./state.ts";

/** A request of which nothing runs and nothing is heard is given up after this, ms: its ingress forgot it. */
const UNSTARTED_MAX_MS = 30_000;

/** An attempt that never ended is given up after this, ms: longer than any answer, shorter than a leak that hurts. */
const ATTEMPT_MAX_MS = 3_600_000;

/** Times one request is asked to yield: batch work must come to its end (routing, section 1.9). */
const PREEMPTIONS_MAX = 2;

/** The slot of a hold that is released. */
const GONE = -1;

/**
 * What decided requests take up, and what their reports teach. Everything reserved here is given back by the attempt's end, the
 * request's end, the session's end or, at last, by age.
 */
export class Holdings {
  readonly #state: EngineState;
  readonly #listener: HoldingsListener;
  readonly #random: Random;
  readonly #live = new Slots<Hold>();
  readonly #keys = new Float64Array(BLOCKS_MAX);
  /** Live holds of the batch class: without any, nobody is looked for. */
  #batch = 0;
  #snapshot: PolicySnapshot;

  constructor(snapshot: PolicySnapshot, state: EngineState, random: Random, listener: HoldingsListener) {
    this.#snapshot = snapshot;
    this.#state = state;
    this.#random = random;
    this.#listener = listener;
  }

  /** Follows a new snapshot. */
  rebind(snapshot: PolicySnapshot): void {
    this.#snapshot = snapshot;
  }

  /** Takes up room for an allowed request. */
  reserve(resolved: Resolved, evidence: Evidence, reservation: Reservation, nowMs: number, holder: Preemptible): Holding {
    const holding: Holding = {
      request: evidence.request,
      model: resolved.model.name,
      class: resolved.class,
      uncachedTokens: reservation.uncachedTokens,
      expectedOutput: reservation.outputTokens,
      evidence,
      unheard: false,
      touchedMs: nowMs,
      sums: noSums(),
      reserved: undefined,
      attempts: [],
      preemptions: 0,
      holder,
    };
    holding.reserved = this.#take(holding, reservation.backend, reservation.predictedTtftMs, nowMs);
    return holding;
  }

  /** Takes up room for another decision on a request that is held already: its candidates were spent. */
  reserveAgain(holding: Holding, evidence: Evidence, reservation: Reservation, nowMs: number): void {
    if (holding.reserved !== undefined) this.#release(holding.reserved, nowMs);
    holding.evidence = evidence;
    holding.unheard = false;
    holding.touchedMs = nowMs;
    holding.reserved = this.#take(holding, reservation.backend, reservation.predictedTtftMs, nowMs);
  }

  /** Takes in a report. `holding` is undefined when the request is not known here (any more): then only what the end says is learned. */
  report(holding: Holding | undefined, report: AttemptReport, nowMs: number): void {
    const { event } = report;
    if (holding !== undefined) holding.touchedMs = nowMs;
    switch (event.case) {
      case "started":
        if (event.value.hedge) this.#state.hedges.spend();
        if (holding !== undefined) this.#start(holding, report, event.value.hedge, nowMs);
        break;
      case "firstToken":
        this.#firstToken(holding, report.attemptId, event.value.ttftMs, nowMs);
        break;
      case "gap":
        this.#gap(attemptOf(holding, report.attemptId), event.value.gapMs, event.value.outputTokens, nowMs);
        break;
      case "ended":
        this.#end(holding, report, event.value, nowMs);
        break;
      case "requestDone":
        if (holding !== undefined) this.releaseAll(holding, nowMs);
        break;
      case undefined:
        break;
    }
  }

  /**
   * Asks the newest batch attempt without content at one of the backends that `waiting` waits for to make room (routing, section 1.9).
   * Returns whether one was asked. An answer that is not streamed shows nothing until its end: it yields while its prompt is computed.
   */
  preempt(waiting: Resolved, nowMs: number): boolean {
    if (this.#batch === 0 || waiting.class === "batch") return false;
    let victim: Hold | undefined;
    for (const hold of this.#live) {
      const newer = victim === undefined || hold.sinceMs >= victim.sinceMs;
      if (newer && canYield(hold, nowMs) && this.#isWanted(hold, waiting)) victim = hold;
    }
    if (victim === undefined) return false;
    const { holding, attemptId } = victim;
    victim.mayYield = false;
    if (!holding.holder.preempt(holding.request.decisionId, attemptId)) return false;
    holding.preemptions++;
    return true;
  }

  #isWanted({ compiled }: Hold, waiting: Resolved): boolean {
    const { candidates } = waiting.model;
    return candidates.includes(compiled.index) && judgeHard(this.#snapshot, compiled.index, waiting) === OUT.none;
  }

  /** Gives back everything a request holds. */
  releaseAll(holding: Holding, nowMs: number): void {
    if (holding.reserved !== undefined) this.#release(holding.reserved, nowMs);
    holding.reserved = undefined;
    for (const hold of holding.attempts.splice(0)) this.#release(hold, nowMs);
  }

  /** Learns from requests that wait for their first token, and gives back what is too old. To be called a few times a second. */
  sweep(nowMs: number): void {
    for (const hold of this.#live) {
      const ageMs = nowMs - hold.sinceMs;
      if (hold.prefillTokens > 0) learnCensored(hold.compiled, hold.backend, hold.basis, ageMs, nowMs);
      if (ageMs > ATTEMPT_MAX_MS) this.#release(hold, nowMs);
    }
  }

  /** Whether nothing was heard of a request for too long although nothing of it runs: the caller then releases it. */
  isForgotten(holding: Holding, nowMs: number): boolean {
    return holding.attempts.length === 0 && nowMs - holding.touchedMs > UNSTARTED_MAX_MS;
  }

  #take(holding: Holding, backend: BackendState, predictedTtftMs: number, nowMs: number): Hold {
    if (backend.breaker.state(nowMs).kind === "open") this.#tell(backend, LIVE, false, nowMs);
    const trial = backend.breaker.admit(nowMs) === "trial";
    const basis = basisOf(backend, holding.request.inputTokens, holding.uncachedTokens, predictedTtftMs);
    const compiled = this.#compiledOf(backend);
    const hold: Hold = {
      attemptId: "",
      backend,
      compiled,
      model: holding.model,
      tenant: accountOf(holding.request),
      sinceMs: nowMs,
      share: callShare(holding.request),
      basis,
      trial,
      prefillTokens: holding.request.stream ? holding.uncachedTokens : 0,
      contextTokens: isEmbeddings(holding) ? 0 : holding.request.inputTokens,
      outputTokens: 0,
      gapSeen: false,
      leader: undefined,
      mayYield: holding.class === "batch",
      pace: followPace(compiled, backend, holding, predictedTtftMs, this.#snapshot.paceTargets[compiled.index]!, nowMs),
      slot: GONE,
      holding,
    };
    if (hold.mayYield) this.#batch++;
    backend.inFlight += hold.share;
    backend.requests += 1;
    if (backend.requests > backend.inFlightPeak) backend.inFlightPeak = backend.requests;
    backend.prefillTokens += hold.prefillTokens;
    backend.contextTokens += hold.contextTokens;
    backend.rates.take(holding.request.inputTokens, nowMs);
    if (!isEmbeddings(holding)) learnDispatch(backend, holding.uncachedTokens, holding.request.inputTokens, nowMs);
    if (hold.compiled.structural && holding.request.prefixHashes.length > 0) this.#place(hold, nowMs);
    this.#state.shares.enter(hold.model, hold.tenant, holding.uncachedTokens + holding.expectedOutput);
    hold.slot = this.#live.add(hold);
    return hold;
  }

  /** The backend will hold this prompt's prefix: engines cache it when they schedule the request, some when it is computed. */
  #place(hold: Hold, nowMs: number): void {
    const { backend, holding, basis } = hold;
    const { prefixHashes, stream } = holding.request;
    const count = readKeys(prefixHashes, this.#keys);
    const known = backend.prefixes.add(this.#keys, count, backend.kvCapacityTokens, nowMs);
    backend.prefixNews.add(prefixHashes, known);
    // Only a stream says when its prompt is computed.
    if (hold.compiled.leadsFirst && stream)
      hold.leader = backend.leaders.add(this.#keys, count, known, hold.prefillTokens, nowMs + basis.predictedTtftMs);
  }

  #endLead(hold: Hold): void {
    const { leader } = hold;
    hold.leader = undefined;
    if (leader !== undefined) hold.backend.leaders.end(leader);
  }

  #compiledOf(backend: BackendState): CompiledBackend {
    const index = this.#snapshot.indexOf.get(backend.name);
    return this.#snapshot.backends[index ?? 0]!;
  }

  #release(hold: Hold, nowMs: number): void {
    if (hold.slot === GONE) return;
    this.#live.remove(hold.slot);
    hold.slot = GONE;
    if (hold.holding.class === "batch") this.#batch--;
    const { backend } = hold;
    if (hold.pace !== undefined) backend.paces.leave(hold.pace);
    backend.inFlight -= hold.share;
    this.#state.shares.leave(hold.model, hold.tenant);
    backend.requests -= 1;
    backend.prefillTokens = Math.max(0, backend.prefillTokens - hold.prefillTokens);
    backend.contextTokens = Math.max(0, backend.contextTokens - hold.contextTokens);
    hold.prefillTokens = 0;
    if (hold.trial) this.#tell(backend, { kind: "neutral" }, true, nowMs);
    this.#endLead(hold);
    this.#listener.onRelease(backend);
  }

  #start(holding: Holding, report: AttemptReport, hedge: boolean, nowMs: number): void {
    if (attemptOf(holding, report.attemptId) !== undefined) return;
    const hold = (hedge ? undefined : this.#claim(holding, report.backend, nowMs)) ?? this.#takeNamed(holding, report.backend, nowMs);
    if (hold === undefined) return;
    hold.attemptId = report.attemptId;
    holding.attempts.push(hold);
  }

  /** The reservation, if it is for this backend; one for another backend is given back. */
  #claim(holding: Holding, backendName: string, nowMs: number): Hold | undefined {
    const { reserved } = holding;
    holding.reserved = undefined;
    if (reserved === undefined || reserved.backend.name === backendName) return reserved;
    this.#release(reserved, nowMs);
    return undefined;
  }

  #takeNamed(holding: Holding, backendName: string, nowMs: number): Hold | undefined {
    const backend = this.#state.byName(backendName);
    return backend === undefined ? undefined : this.#take(holding, backend, 0, nowMs);
  }

  #firstToken(holding: Holding | undefined, attemptId: string, ttftMs: number, nowMs: number): void {
    const hold = attemptOf(holding, attemptId);
    if (holding === undefined || hold === undefined || hold.slot === GONE) return;
    hold.mayYield = false;
    if (hold.trial) {
      // A backend that answers is back: the trial need not last as long as the answer.
      hold.trial = false;
      this.#tell(hold.backend, SUCCESS, true, nowMs);
    }
    hold.backend.prefillTokens = Math.max(0, hold.backend.prefillTokens - hold.prefillTokens);
    hold.prefillTokens = 0;
    if (holding.request.stream) learnTtft(hold.compiled, hold.backend, hold.basis, ttftMs, nowMs);
    this.#endLead(hold);
  }

  #gap(hold: Hold | undefined, gapMs: number, outputTokens: number, nowMs: number): void {
    if (hold === undefined || hold.slot === GONE) return;
    const more = Math.max(0, outputTokens - hold.outputTokens);
    hold.outputTokens += more;
    hold.contextTokens += more;
    hold.backend.contextTokens += more;
    hold.gapSeen = true;
    learnGap(hold.compiled, hold.backend, gapMs, nowMs);
  }

  #end(holding: Holding | undefined, report: AttemptReport, ended: AttemptEnded, nowMs: number): void {
    const backend = this.#state.byName(report.backend);
    const hold = attemptOf(holding, report.attemptId);
    if (backend !== undefined) this.#learnEnd(backend, holding, hold, ended, nowMs);
    if (holding === undefined || hold === undefined) return;
    holding.attempts.splice(holding.attempts.indexOf(hold), 1);
    this.#release(hold, nowMs);
  }

  #learnEnd(backend: BackendState, holding: Holding | undefined, hold: Hold | undefined, ended: AttemptEnded, nowMs: number): void {
    const event = holding !== undefined && this.#isShared(backend, holding) ? copyEvent(ended) : breakerEvent(ended);
    const trial = hold?.trial ?? false;
    this.#tell(backend, event, trial, nowMs);
    if (hold !== undefined) hold.trial = false;
    if (ended.rateLimit !== undefined) backend.rates.observe(ended.rateLimit satisfies RateLimitState, nowMs);
    switch (event.kind) {
      case "success":
        backend.limit.onSuccess(backend.inFlight, nowMs);
        if (holding !== undefined && hold !== undefined && !isEmbeddings(holding)) this.#learnAnswer(backend, holding, hold, ended, nowMs);
        break;
      case "failure":
        if (ended.httpStatus === 503 || ended.reason === "UPSTREAM_TIMEOUT") backend.limit.onDrop(nowMs);
        break;
      case "limited":
        backend.limit.onDrop(nowMs);
        learnRefusal(backend, ended.retryAfterMs, nowMs);
        if (ended.retryAfterMs > 0) backend.rates.block(ended.retryAfterMs, nowMs);
        break;
      case "neutral":
      case "live":
        break;
    }
  }

  /** A copy at a backend that answers clients of its experiment too. */
  #isShared(backend: BackendState, { request, evidence }: Holding): boolean {
    if (request.role !== "shadow") return false;
    const experiment = this.#snapshot.experiments.get(evidence.decision.experiment);
    return experiment?.control.model.candidates.includes(this.#snapshot.indexOf.get(backend.name) ?? -1) ?? false;
  }

  #learnAnswer(backend: BackendState, holding: Holding, hold: Hold, ended: AttemptEnded, nowMs: number): void {
    learnOutput(backend, ended.outputTokens);
    this.#listener.onAnswer(holding, ended.outputTokens);
    if (hold.gapSeen || ended.outputTokens === 0) return;
    const beforeMs = holding.request.stream && ended.ttftMs > 0 ? ended.ttftMs : Math.min(hold.basis.predictedTtftMs, ended.durationMs);
    learnGap(hold.compiled, backend, (ended.durationMs - beforeMs) / ended.outputTokens, nowMs);
  }

  #tell(backend: BackendState, event: BreakerEvent, trial: boolean, nowMs: number): void {
    const mayEject = event.kind === "success" || this.#mayEject(backend, nowMs);
    const transition = backend.breaker.on(event, nowMs, this.#random, trial, mayEject);
    if (transition === undefined) return;
    if (transition.to === "closed") backend.rampSinceMs = nowMs;
    this.#listener.onBreaker(backend, transition);
  }

  /** The success rate may open a breaker only while not too much of the pool is out: a bad rate beats no backend. */
  #mayEject(backend: BackendState, nowMs: number): boolean {
    let out = 0;
    for (const other of this.#state.backends) if (other !== backend && other.breaker.state(nowMs).kind === "open") out++;
    return (out + 1) / Math.max(1, this.#state.backends.length) <= this.#snapshot.config.resilience.breaker.maxEjected;
  }
}

function canYield({ mayYield, attemptId, holding, trial, sinceMs, basis }: Hold, nowMs: number): boolean {
  if (!mayYield || attemptId === "" || trial || holding.preemptions >= PREEMPTIONS_MAX || holding.attempts.length !== 1) return false;
  return holding.request.stream || nowMs - sinceMs < basis.predictedTtftMs;
}

/** They generate nothing: there is no length, pace or context to learn from them. */
function isEmbeddings(holding: Holding): boolean {
  return holding.request.operation === Operation.EMBEDDINGS;
}

function attemptOf(holding: Holding | undefined, attemptId: string): Hold | undefined {
  if (holding === undefined) return undefined;
  for (const hold of holding.attempts) if (hold.attemptId === attemptId) return hold;
  return undefined;
}

/** A decision that names a backend with an open breaker makes the request its trial. */
const LIVE: BreakerEvent = { kind: "live" };
