import { type AttemptReport, type DecideRequest, type Decision, type PolicyFallback } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { ControlState } from "#gen/signalbox/control/v1/control_service_pb.ts";
import type { HealthSnapshot } from "#gen/signalbox/health/v1/health_service_pb.ts";
import type { DecisionRecord } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import type { Clock, Random } from "#libs/clock/index.ts";
import type { Config } from "#libs/config/index.ts";
import { EMPTY_PRICE_INDEX, type PriceIndex } from "#libs/money/index.ts";
import type { BreakerTransition } from "#libs/resilience/index.ts";
import type { Logger, Metrics } from "#libs/telemetry/index.ts";
import type { LiveMap } from "#libs/live/index.ts";
import { Engine, type Evidence, type Verdict } from "./engine.ts";
import { type Breach, ExperimentWatch } from "./experiment-watch.ts";
import { countUnit, observeDone, observeEnd } from "./arm-reports.ts";
import { buildFallback } from "./fallback.ts";
import { type Follower, Followers } from "./followers.ts";
import { applyHealth, forgetStaleGauges } from "./health-feed.ts";
import type { Holding } from "./holding.ts";
import { Holdings } from "./holdings.ts";
import type { Moment } from "./judge.ts";
import { latenessOf } from "./lateness.ts";
import { refreshLimit } from "./limits.ts";
import { EngineMetrics } from "./metrics.ts";
import { patientUntil } from "./pace-guard.ts";
import { type DecisionRecords, recordOf } from "./records.ts";
import { accountOf, type Denial, deny, isDenial, resolve, type Resolved } from "./resolve.ts";
import { type Attempted, Scheduler, type Waiter } from "./scheduler.ts";
import { compileSnapshot, type PolicySnapshot } from "./snapshot.ts";
import { type BackendState, EngineState } from "./state.ts";

/** Seeds are 32 bits. */
const SEEDS = 2 ** 32;

/** What an output token counts for against an uncached prompt token: about its share of GPU time, and of a cloud's price. */
const OUTPUT_WEIGHT = 5;

/** The answer to a request that was taken back: nobody hangs. */
const WITHDRAWN: Denial = deny("CANCELED", "The request was withdrawn");

type Decided = Verdict & { readonly kind: "decided" };

/** What the live engine is built from. */
export interface LiveEngineDeps {
  readonly config: Config;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly engineId: string;
  readonly records: DecisionRecords;
  /** A guard found that an arm must go. */
  readonly onBreach?: (breach: Breach) => void;
}

/** Whose requests these are; what one holds is released together. */
export interface Holder {
  readonly holdings: LiveMap<string, Holding>;
  readonly waiters: LiveMap<string, Waiter>;
  /** Those that wait for another's first token. */
  readonly followers: LiveMap<string, Follower>;
  /** Asks for an attempt of it to yield; false = nobody listens. */
  preempt(decisionId: string, attemptId: string): boolean;
}

/** A decision, or a wait for one; `waiter` where it is one for room. */
export type Answer = { readonly decision: Decision } | { readonly waiter: Waiter | undefined; readonly promise: Promise<Decision> };

/** The engine without its transports: snapshot, state, decisions, reservations, the queue. Single-threaded and free of I/O. */
export class LiveEngine {
  readonly state: EngineState;
  readonly scheduler: Scheduler;
  readonly #deps: LiveEngineDeps;
  readonly #engine: Engine;
  readonly #holdings: Holdings;
  readonly #metrics: EngineMetrics;
  readonly #followers: Followers;
  /** What was seen of the arms of experiments. */
  readonly experiments: ExperimentWatch;
  readonly #deliver = new WeakMap<Waiter, { readonly holder: Holder; readonly settle: (decision: Decision | Promise<Decision>) => void }>();
  #snapshot: PolicySnapshot;
  /** As the file has it: control state may have other revisions of models. */
  #config: Config;
  #control: ControlState | undefined;
  #controlAtMs = 0;
  #fallback: PolicyFallback;
  #fallbackStale = false;

  constructor(deps: LiveEngineDeps) {
    this.#deps = deps;
    const nowMs = deps.clock.monotonicMs();
    this.#config = deps.config;
    this.#snapshot = compileSnapshot(deps.config, undefined, EMPTY_PRICE_INDEX);
    this.state = new EngineState(this.#snapshot, nowMs);
    this.#engine = new Engine(deps.engineId);
    this.experiments = new ExperimentWatch((breach) => deps.onBreach?.(breach));
    this.scheduler = new Scheduler(deps.config);
    this.#holdings = new Holdings(this.#snapshot, this.state, deps.random, {
      onRelease: () => this.pump(),
      onBreaker: (backend, transition) => this.#onBreaker(backend, transition),
      onAnswer: (holding, tokens) => this.#onAnswer(holding, tokens),
    });
    this.#followers = new Followers(deps.clock, deps.metrics);
    this.#metrics = new EngineMetrics(deps.metrics, this.state, this.scheduler, () => deps.clock.monotonicMs());
    this.#fallback = buildFallback(this.#engine, this.#snapshot, this.state, this.#now());
  }

  get snapshot(): PolicySnapshot {
    return this.#snapshot;
  }

  /** Revision of the control state in force; 0 = none yet. */
  get controlRevision(): bigint {
    return this.#control?.revision ?? 0n;
  }

  /** When that was taken over, ms since the epoch; 0 = never. */
  get controlAtMs(): number {
    return this.#controlAtMs;
  }

  /** Whether a price book has arrived. */
  get hasPrices(): boolean {
    return this.#snapshot.prices.version !== "";
  }

  /** The fallback as of the last refresh. */
  get fallback(): PolicyFallback {
    return this.#fallback;
  }

  /** Decides at once where it can; otherwise the request waits. */
  decide(holder: Holder, request: DecideRequest): Answer {
    const startedMs = this.#monoMs();
    const resolved = resolve(request, this.#snapshot);
    if (isDenial(resolved)) return { decision: this.#refusal(request, resolved, startedMs, 0) };
    if (this.scheduler.size > 0 && this.scheduler.hasAhead(resolved)) return this.#lineUp(holder, resolved, startedMs);
    const verdict = this.#look(resolved, startedMs, 0);
    if (verdict.kind === "wait") return this.#wait(holder, resolved, startedMs, !verdict.patient);
    return this.#follow(holder, verdict, resolved, startedMs) ?? { decision: this.#finish(holder, verdict, resolved, startedMs, 0) };
  }

  /** Decides without waiting, reserving or keeping a record. */
  dryRun(request: DecideRequest): DecisionRecord | undefined {
    const options = { seed: this.#deps.random.int(SEEDS), explain: true, live: false, lift: 0 };
    const verdict = this.#engine.decide(request, this.#snapshot, this.state, this.#now(), options);
    return verdict.kind === "decided" ? recordOf(verdict.evidence) : undefined;
  }

  /** Withdraws a waiting request; it is answered with CANCELED so that nobody hangs. */
  cancel(holder: Holder, decisionId: string): void {
    holder.followers.get(decisionId)?.withdraw();
    const waiter = holder.waiters.get(decisionId);
    if (waiter === undefined || waiter.settled) return;
    this.scheduler.cancel(waiter);
    waiter.refuse(WITHDRAWN);
  }

  /** Takes in a report. */
  report(holder: Holder, report: AttemptReport): void {
    const nowMs = this.#monoMs();
    const holding = holder.holdings.get(report.decisionId);
    this.#holdings.report(holding, report, nowMs);
    if (holding !== undefined && report.event.case === "ended")
      observeEnd(this.experiments, this.#snapshot, holding, report.backend, report.event.value);
    if (report.event.case === "requestDone") {
      if (holding !== undefined) observeDone(this.experiments, this.#snapshot, holding);
      holder.holdings.delete(report.decisionId);
    }
    if (holding !== undefined && report.event.case === "ended" && report.event.value.responseId !== "") {
      this.#deps.records.link(holding.evidence, report.event.value.responseId);
    }
  }

  /** Releases everything of a holder. */
  release(holder: Holder): void {
    for (const follower of holder.followers.values()) follower.withdraw();
    for (const { resolved } of holder.waiters.values()) this.cancel(holder, resolved.request.decisionId);
    for (const holding of holder.holdings.values()) this.#holdings.releaseAll(holding, this.#monoMs());
    holder.holdings.clear();
  }

  /** Dispatches who can go. */
  pump(): void {
    if (this.scheduler.size > 0) this.scheduler.pump(this.#monoMs(), (waiter, lifted) => this.#attempt(waiter, lifted));
  }

  /** New configuration; throws and keeps the old one when a rule does not compile. */
  setConfig(config: Config): void {
    this.#config = config;
    this.#swap(compileSnapshot(config, this.#control, this.#snapshot.prices));
    this.scheduler.configure(config);
  }

  /** New control state; an older one is ignored. */
  setControl(control: ControlState): void {
    if (this.#control !== undefined && control.revision <= this.#control.revision) return;
    this.#control = control;
    this.#swap(compileSnapshot(this.#config, control, this.#snapshot.prices));
    this.#controlAtMs = this.#deps.clock.now();
  }

  /** New prices. */
  setPrices(prices: PriceIndex): void {
    if (prices.version === this.#snapshot.prices.version) return;
    this.#swap({ ...this.#snapshot, prices });
  }

  /** News of the health monitor. */
  setHealth(health: HealthSnapshot): void {
    const news = applyHealth(this.state, health, this.#monoMs(), this.#deps.clock.now());
    for (const backend of news.revived) {
      const transition = backend.breaker.on({ kind: "live" }, this.#monoMs(), this.#deps.random);
      if (transition !== undefined) this.#onBreaker(backend, transition);
    }
    if (!news.changed) return;
    this.#fallbackStale = true;
    this.pump();
  }

  /** Four times a second: limits, waiting requests as news, old reservations, whoever can go now. */
  tick(holders: Iterable<Holder>): void {
    const nowMs = this.#monoMs();
    this.#holdings.sweep(nowMs);
    for (const { holdings } of holders) {
      for (const holding of holdings.values()) {
        if (!this.#holdings.isForgotten(holding, nowMs)) continue;
        this.#holdings.releaseAll(holding, nowMs);
        holdings.delete(holding.request.decisionId);
      }
    }
    forgetStaleGauges(this.state, nowMs);
    for (const backend of this.#snapshot.backends) {
      refreshLimit(backend, this.state.backends[backend.index]!, this.#snapshot.paceTargets[backend.index]!, nowMs);
    }
    this.state.shares.refresh(this.#snapshot, this.state.backends, nowMs);
    this.pump();
  }

  /** Rebuilds the fallback if something it shows has changed; returns it then. */
  refreshFallback(): PolicyFallback | undefined {
    if (!this.#fallbackStale) return undefined;
    this.#fallbackStale = false;
    this.#fallback = buildFallback(this.#engine, this.#snapshot, this.state, this.#now());
    return this.#fallback;
  }

  #swap(snapshot: PolicySnapshot): void {
    this.#snapshot = snapshot;
    this.state.rebind(snapshot, this.#monoMs());
    this.#holdings.rebind(snapshot);
    this.experiments.keep(snapshot.experiments.names);
    this.#fallbackStale = true;
    this.pump();
  }

  #monoMs(): number {
    return this.#deps.clock.monotonicMs();
  }

  #now(): Moment {
    return { monoMs: this.#deps.clock.monotonicMs(), wallMs: this.#deps.clock.now() };
  }

  #look(resolved: Resolved, arrivedMs: number, lift: number): Verdict {
    const sinceMs = Math.min(arrivedMs, this.scheduler.waitingSince(resolved.class));
    const patientUntilMs = patientUntil(resolved, sinceMs, this.scheduler.patienceOf(resolved.class));
    const options = { seed: this.#deps.random.int(SEEDS), explain: resolved.request.explain, live: true, lift, patientUntilMs };
    return this.#engine.decideResolved(resolved, this.#snapshot, this.state, this.#now(), options);
  }

  /** Waits behind others, or goes at once where it is its turn: who is ahead may be held back for what only it takes up. */
  #lineUp(holder: Holder, resolved: Resolved, startedMs: number): Answer {
    const answer = this.#wait(holder, resolved, startedMs);
    if ("waiter" in answer && answer.waiter !== undefined && this.scheduler.isNext(answer.waiter, startedMs)) this.pump();
    return answer;
  }

  /** `urgent`: batch work may be asked to make room. */
  #wait(holder: Holder, resolved: Resolved, startedMs: number, urgent = true): Answer {
    const id = resolved.request.decisionId;
    const { promise, resolve: settle } = Promise.withResolvers<Decision>();
    const refuse = (denial: Denial): void => {
      holder.waiters.delete(id);
      this.state.shares.endWait(resolved);
      settle(this.#refusal(resolved.request, denial, this.#monoMs(), this.#monoMs() - startedMs));
    };
    const waiter = this.scheduler.enqueue(resolved, startedMs, refuse, (holder.holdings.get(id)?.preemptions ?? 0) > 0);
    if ("reason" in waiter) return { decision: this.#refusal(resolved.request, waiter, startedMs, 0) };
    holder.waiters.set(id, waiter);
    this.state.shares.beginWait(resolved);
    this.#deliver.set(waiter, { holder, settle });
    // Last: who yields may ask again before this returns.
    if (urgent && this.#holdings.preempt(resolved, startedMs)) this.#metrics.preempted();
    return { waiter, promise };
  }

  /** Holds a request back until another has computed the beginning of its prompt, where it gains by that; then it is decided anew. */
  #follow(holder: Holder, verdict: Decided, resolved: Resolved, arrivedMs: number): Answer | undefined {
    const follow = verdict.reservation?.follow;
    if (follow === undefined) return undefined;
    const id = resolved.request.decisionId;
    const { promise, resolve: settle } = Promise.withResolvers<Decision>();
    const leave = this.#followers.wait(follow, () => {
      holder.followers.delete(id);
      const answer = this.#decideAgain(holder, resolved, arrivedMs);
      settle("decision" in answer ? answer.decision : answer.promise);
    });
    if (leave === undefined) return undefined;
    const withdraw = (): void => {
      holder.followers.delete(id);
      leave();
      settle(this.#refusal(resolved.request, WITHDRAWN, this.#monoMs(), this.#monoMs() - arrivedMs));
    };
    holder.followers.set(id, { withdraw });
    return { waiter: undefined, promise };
  }

  /** Decides on a request that has followed another: it does not follow twice. */
  #decideAgain(holder: Holder, before: Resolved, arrivedMs: number): Answer {
    const startedMs = this.#monoMs();
    const resolved = before.snapshot === this.#snapshot ? before : resolve(before.request, this.#snapshot);
    if (isDenial(resolved)) return { decision: this.#refusal(before.request, resolved, startedMs, startedMs - arrivedMs) };
    const verdict = this.#look(resolved, arrivedMs, 0);
    if (verdict.kind === "wait") return this.#wait(holder, resolved, arrivedMs, !verdict.patient);
    const waitedMs = startedMs - arrivedMs;
    verdict.evidence.decision.followedMs = waitedMs;
    return { decision: this.#finish(holder, verdict, resolved, startedMs, waitedMs) };
  }

  #attempt(waiter: Waiter, lifted: boolean): Attempted {
    const startedMs = this.#monoMs();
    const resolved = waiter.resolved.snapshot === this.#snapshot ? waiter.resolved : resolve(waiter.resolved.request, this.#snapshot);
    if (isDenial(resolved)) {
      waiter.refuse(resolved);
      return "settled";
    }
    const verdict = this.#look(resolved, waiter.arrivedMs, lifted ? 1 : latenessOf(waiter, this.state.lengths, startedMs));
    if (verdict.kind === "wait") return verdict.held ? "held" : "blocked";
    const { holder, settle } = this.#deliver.get(waiter)!;
    holder.waiters.delete(resolved.request.decisionId);
    this.state.shares.endWait(waiter.resolved);
    const follower = this.#follow(holder, verdict, resolved, waiter.arrivedMs);
    if (follower !== undefined && "promise" in follower) settle(follower.promise);
    else settle(this.#finish(holder, verdict, resolved, startedMs, startedMs - waiter.arrivedMs));
    return "settled";
  }

  #finish(holder: Holder, verdict: Decided, resolved: Resolved, startedMs: number, queueMs: number): Decision {
    const { evidence, reservation } = verdict;
    const { decision } = evidence;
    const nowMs = this.#monoMs();
    if (reservation !== undefined) {
      const { request } = resolved;
      const held = holder.holdings.get(request.decisionId);
      if (held !== undefined) this.#holdings.reserveAgain(held, evidence, reservation, nowMs);
      else holder.holdings.set(request.decisionId, this.#holdings.reserve(resolved, evidence, reservation, nowMs, holder));
      if (this.state.shares.isDue) this.state.shares.refresh(this.#snapshot, this.state.backends, nowMs);
      if (resolved.class === "interactive") this.state.hedges.earn(this.#snapshot.config.resilience.hedge.budget);
      const { uncachedTokens, outputTokens } = reservation;
      this.scheduler.served(resolved.class, accountOf(request), uncachedTokens + OUTPUT_WEIGHT * outputTokens, nowMs);
      if (resolved.assignment !== undefined) countUnit(this.experiments, resolved.assignment, request);
    }
    decision.queueMs = queueMs;
    if (decision.deadlineMs > 0) decision.deadlineMs = Math.max(1, decision.deadlineMs - queueMs);
    decision.decideMs = this.#monoMs() - startedMs;
    this.#keep(evidence);
    return decision;
  }

  #refusal(request: DecideRequest, denial: Denial, startedMs: number, queueMs: number): Decision {
    const evidence = this.#engine.refuse(request, this.#snapshot, this.state, denial, this.#now());
    evidence.decision.queueMs = queueMs;
    evidence.decision.decideMs = this.#monoMs() - startedMs;
    this.#keep(evidence);
    return evidence.decision;
  }

  #keep(evidence: Evidence): void {
    this.#metrics.decided(evidence.decision, evidence.decision.decideMs, evidence.decision.queueMs);
    const { share } = this.#snapshot.config.telemetry.decisions;
    if (share >= 1 || this.#deps.random.next() < share) this.#deps.records.keep(evidence);
  }

  #onAnswer(holding: Holding, tokens: number): void {
    const nowMs = this.#monoMs();
    const { request } = holding;
    this.state.lengths.learn(request.tenant, request.templateHash, holding.model, tokens, nowMs);
    this.scheduler.correct(holding.class, accountOf(request), OUTPUT_WEIGHT * (tokens - holding.expectedOutput), nowMs);
  }

  #onBreaker(backend: BackendState, transition: BreakerTransition): void {
    this.#deps.logger.info({ backend: backend.name, from: transition.from, to: transition.to }, "breaker changed");
    this.#fallbackStale = true;
    if (transition.to === "open") {
      const isOpen = (index: number): boolean => this.state.backends[index]!.breaker.state(this.#monoMs()).kind === "open";
      for (const { experiment, arm } of this.#snapshot.experiments.armsWithout(isOpen))
        this.experiments.broken(experiment.experiment, arm.name);
    }
    this.pump();
  }
}
