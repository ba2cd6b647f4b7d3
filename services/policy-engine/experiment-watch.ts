import { type AttemptEnded, Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Experiment } from "#libs/experiments/index.ts";
import type { ArmComparison } from "#libs/peers/index.ts";
import {
  addSample,
  confidenceSequence,
  emptyMoments,
  type Moments,
  oneSidedSequence,
  SAMPLES_MIN,
  TUNED_FOR,
} from "#libs/statistics/index.ts";

/** Chance that the guards of an experiment stop it for nothing, over its whole life and all guards. */
const ALPHA = 0.05;

/** Guards with statistics share that chance: error rate and time to first token. */
const GUARDS = 2;

/** An arm is analysed after this many outcomes, and at most this often (ms). */
const ANALYSE_EVERY = 25;
const ANALYSE_INTERVAL_MS = 1_000;

/** Analyses in a row that must find a breach. */
const BREACHES = 2;

/** Without statistics: this many failures in a row, or this many among the last outcomes. */
const KILL_CONSECUTIVE = 10;
const KILL_WINDOW = 20;
const KILL_FAILURES = 10;

const ERRORS: ReadonlySet<string> = new Set([
  "UPSTREAM_UNAVAILABLE",
  "UPSTREAM_TIMEOUT",
  "UPSTREAM_PROTOCOL",
  "UPSTREAM_UNAUTHORIZED",
  "UPSTREAM_RATE_LIMITED",
  "STREAM_INTERRUPTED",
]);

/** What one engine saw of an arm. */
export interface ArmStatistics {
  readonly arm: string;
  /** 1 = failed. */
  readonly errors: Moments;
  /** Natural logarithm of ms. */
  readonly logTtft: Moments;
  /** ms per output token. */
  readonly tpot: Moments;
}

interface Watched extends ArmStatistics {
  consecutive: number;
  /** Last outcomes as bits, 1 = failed; the latest is the lowest. */
  window: number;
  sinceAnalysis: number;
  analysedAtMs: number;
  breaches: number;
}

interface WatchedExperiment {
  /** Outcomes of another run of the same experiment do not count. */
  readonly run: string;
  readonly arms: Map<string, Watched>;
  /** Revision a breach was told of; 0 = none. */
  toldRevision: number;
}

/** A guard found that an arm must go. */
export interface Breach {
  readonly experiment: Experiment;
  readonly arm: string;
  /** One line. */
  readonly reason: string;
}

/** Statistics by arm from the ends of attempts, and the guards over them (routing, section 1.13). */
export class ExperimentWatch {
  readonly #watched = new Map<string, WatchedExperiment>();
  readonly #onBreach: (breach: Breach) => void;

  constructor(onBreach: (breach: Breach) => void) {
    this.#onBreach = onBreach;
  }

  /** What was seen of an experiment's arms. */
  statistics(name: string): readonly ArmStatistics[] {
    return [...(this.#watched.get(name)?.arms.values() ?? [])];
  }

  /** Forgets experiments that are gone, so that this stays as small as what is in force. */
  keep(names: ReadonlySet<string>): void {
    for (const name of this.#watched.keys()) if (!names.has(name)) this.#watched.delete(name);
  }

  /** A breach could not be acted on: it is told again at the next analysis. */
  tellAgain(name: string): void {
    const watched = this.#watched.get(name);
    if (watched !== undefined) watched.toldRevision = 0;
  }

  /** Takes in an attempt's end. What the client or a hedge ended says nothing about the arm. */
  ended(experiment: Experiment, armName: string, ended: AttemptEnded, nowMs: number): void {
    const failed = ended.outcome === Outcome.FAILED && ERRORS.has(ended.reason);
    if (!failed && ended.outcome !== Outcome.OK) return;
    const watched = this.#of(experiment);
    const arm = armOf(watched, armName);
    observe(arm, failed || ended.garbage, ended);
    if (armName === experiment.control || experiment.state !== "running") return;
    const reason = killReason(arm) ?? this.#analyse(experiment, watched, arm, nowMs);
    if (reason !== undefined) this.#tell(experiment, watched, armName, reason);
  }

  /** The breakers of all backends of an arm are open. */
  broken(experiment: Experiment, armName: string): void {
    if (armName === experiment.control || experiment.state !== "running") return;
    this.#tell(experiment, this.#of(experiment), armName, "the breakers of all its backends are open");
  }

  #tell(experiment: Experiment, watched: WatchedExperiment, armName: string, reason: string): void {
    if (watched.toldRevision === experiment.revision) return;
    watched.toldRevision = experiment.revision;
    this.#onBreach({ experiment, arm: armName, reason: `arm ${armName}: ${reason}` });
  }

  #of(experiment: Experiment): WatchedExperiment {
    const started = experiment.history.findLast((step) => step.action === "start")?.revision ?? 0;
    const run = `${experiment.basis}/${started}`;
    const known = this.#watched.get(experiment.name);
    if (known?.run === run) return known;
    const fresh = { run, arms: new Map<string, Watched>(), toldRevision: 0 };
    this.#watched.set(experiment.name, fresh);
    return fresh;
  }

  #analyse(experiment: Experiment, watched: WatchedExperiment, arm: Watched, nowMs: number): string | undefined {
    if (arm.sinceAnalysis < ANALYSE_EVERY || nowMs - arm.analysedAtMs < ANALYSE_INTERVAL_MS) return undefined;
    arm.sinceAnalysis = 0;
    arm.analysedAtMs = nowMs;
    const reason = breachOf(experiment, armOf(watched, experiment.control), arm);
    arm.breaches = reason === undefined ? 0 : arm.breaches + 1;
    return arm.breaches >= BREACHES ? reason : undefined;
  }
}

/** The arms beside their control. */
export function compareArms(experiment: Experiment, seen: readonly ArmStatistics[]): ArmComparison[] {
  const control = seen.find(({ arm }) => arm === experiment.control);
  return seen.map((each): ArmComparison => {
    const { arm, errors, logTtft, tpot } = each;
    const interval =
      control === undefined || control === each ? undefined : confidenceSequence(control.errors, errors, ALPHA, TUNED_FOR.guard);
    return {
      arm,
      outcomes: errors.count,
      errorRate: errors.mean,
      ttftMs: logTtft.count === 0 ? undefined : Math.exp(logTtft.mean),
      tpotMs: tpot.count === 0 ? undefined : tpot.mean,
      errorRateDifference: interval && [interval.lower, interval.upper],
    };
  });
}

function armOf(watched: WatchedExperiment, name: string): Watched {
  const known = watched.arms.get(name);
  if (known !== undefined) return known;
  const fresh: Watched = {
    arm: name,
    errors: emptyMoments(),
    logTtft: emptyMoments(),
    tpot: emptyMoments(),
    consecutive: 0,
    window: 0,
    sinceAnalysis: 0,
    analysedAtMs: Number.NEGATIVE_INFINITY,
    breaches: 0,
  };
  watched.arms.set(name, fresh);
  return fresh;
}

function observe(arm: Watched, failed: boolean, ended: AttemptEnded): void {
  addSample(arm.errors, failed ? 1 : 0);
  arm.consecutive = failed ? arm.consecutive + 1 : 0;
  arm.window = ((arm.window << 1) | (failed ? 1 : 0)) & ((1 << KILL_WINDOW) - 1);
  arm.sinceAnalysis++;
  if (failed) return;
  if (ended.ttftMs > 0) addSample(arm.logTtft, Math.log(ended.ttftMs));
  if (ended.ttftMs > 0 && ended.outputTokens > 1) addSample(arm.tpot, (ended.durationMs - ended.ttftMs) / (ended.outputTokens - 1));
}

/** What needs no statistics. */
function killReason(arm: Watched): string | undefined {
  if (arm.consecutive >= KILL_CONSECUTIVE) return `${arm.consecutive} failures in a row`;
  if (arm.errors.count < KILL_WINDOW) return undefined;
  let failures = 0;
  for (let bits = arm.window; bits !== 0; bits &= bits - 1) failures++;
  return failures >= KILL_FAILURES ? `${failures} of the last ${KILL_WINDOW} failed` : undefined;
}

/** A guard whose margin the arm has left for certain, in words. */
function breachOf({ guards }: Experiment, control: ArmStatistics, arm: ArmStatistics): string | undefined {
  if (guards.errorRate !== undefined && exceeds(control.errors, arm.errors, guards.errorRate)) {
    return `error rate ${percent(arm.errors.mean)}, control ${percent(control.errors.mean)}`;
  }
  if (guards.ttft !== undefined && exceeds(control.logTtft, arm.logTtft, Math.log1p(guards.ttft))) {
    return `time to first token ${percent(Math.expm1(arm.logTtft.mean - control.logTtft.mean))} above control`;
  }
  return undefined;
}

function exceeds(control: Moments, arm: Moments, margin: number): boolean {
  if (control.count < SAMPLES_MIN.guard || arm.count < SAMPLES_MIN.guard) return false;
  const interval = oneSidedSequence(control, arm, ALPHA / GUARDS, TUNED_FOR.guard);
  return interval !== undefined && interval.lower > margin;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
