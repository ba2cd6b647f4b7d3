import { type AttemptEnded, Outcome, SchemaCheck, ToolAgreement } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { type Experiment, type MetricName, type Observations, runOf, shadowName } from "#libs/experiments/index.ts";
import type { RequestSums } from "./request-sums.ts";
import { addSample, emptyMoments, fnv1a32, type Moments } from "#libs/statistics/index.ts";

/** Without statistics: this many failures in a row, or this many among the last outcomes. */
const KILL_CONSECUTIVE = 10;
const KILL_WINDOW = 20;
const KILL_FAILURES = 10;

/** Different units of an arm that are counted one by one: enough to see a skew of one point. Beyond, none is added. */
const UNITS_MAX = 20_000;

const ERRORS: ReadonlySet<string> = new Set([
  "UPSTREAM_UNAVAILABLE",
  "UPSTREAM_TIMEOUT",
  "UPSTREAM_PROTOCOL",
  "UPSTREAM_UNAUTHORIZED",
  "UPSTREAM_RATE_LIMITED",
  "STREAM_INTERRUPTED",
]);

interface Watched {
  readonly metrics: Map<MetricName, Moments>;
  /** Hashes of the units assigned under the revision in force. */
  readonly seen: Set<number>;
  units: number;
  consecutive: number;
  /** Last outcomes as bits, 1 = failed; the latest is the lowest. */
  window: number;
  outcomes: number;
}

interface WatchedExperiment {
  /** Outcomes of another run of the same experiment do not count. */
  readonly run: string;
  readonly arms: Map<string, Watched>;
  /** Revision that units are counted under. */
  revision: number;
  /** Revision a kill was told of; 0 = none. */
  toldRevision: number;
  changed: boolean;
}

/** An arm must go, whatever the statistics. */
export interface Breach {
  readonly experiment: Experiment;
  readonly arm: string;
  /** One line. */
  readonly reason: string;
}

/** What this engine saw of an experiment since it started, whole. */
export interface WatchedState {
  readonly name: string;
  readonly run: string;
  readonly revision: number;
  readonly arms: Observations;
}

/**
 * What this engine sees of experiments: samples by arm and metric, for the ledger to add up with those of the other engines and judge,
 * and the kills that need no statistics and no second opinion (routing, section 1.13).
 */
export class ExperimentWatch {
  readonly #watched = new Map<string, WatchedExperiment>();
  readonly #onBreach: (breach: Breach) => void;

  constructor(onBreach: (breach: Breach) => void) {
    this.#onBreach = onBreach;
  }

  /** Forgets experiments that are gone, so that this stays as small as what is in force. */
  keep(names: ReadonlySet<string>): void {
    for (const name of this.#watched.keys()) if (!names.has(name)) this.#watched.delete(name);
  }

  /** Experiments with news since the last call. */
  takeNews(): WatchedState[] {
    const news: WatchedState[] = [];
    for (const [name, watched] of this.#watched) {
      if (!watched.changed) continue;
      watched.changed = false;
      news.push({ name, run: watched.run, revision: watched.revision, arms: watched.arms });
    }
    return news;
  }

  /** News could not be told: they are news again. */
  tellNewsAgain(): void {
    for (const watched of this.#watched.values()) watched.changed = true;
  }

  /** A kill could not be acted on: it is told again at the next outcome. */
  tellAgain(name: string): void {
    const watched = this.#watched.get(name);
    if (watched !== undefined) watched.toldRevision = 0;
  }

  /** A unit was assigned to an arm. */
  assigned(experiment: Experiment, armName: string, unit: string): void {
    const watched = this.#of(experiment);
    const arm = armOf(watched, armName);
    if (arm.units >= UNITS_MAX) return;
    arm.seen.add(fnv1a32(unit));
    if (arm.seen.size === arm.units) return;
    arm.units = arm.seen.size;
    watched.changed = true;
  }

  /** Takes in an attempt's end. What the client or a hedge ended says nothing about the arm. */
  ended(experiment: Experiment, armName: string, ended: AttemptEnded): void {
    const failed = ended.outcome === Outcome.FAILED && ERRORS.has(ended.reason);
    if (!failed && ended.outcome !== Outcome.OK) return;
    const watched = this.#of(experiment);
    const arm = armOf(watched, armName);
    watched.changed = true;
    observe(arm, failed || ended.garbage, ended);
    if (!failed) observeAnswer(arm, ended);
    if (armName === experiment.control || !isUnderWay(experiment)) return;
    const reason = killReason(arm);
    if (reason !== undefined) this.#tell(experiment, watched, armName, reason);
  }

  /** A request that was answered is over. */
  requestDone(experiment: Experiment, armName: string, { costNanoUsd, answerTokens, failed }: RequestSums): void {
    const watched = this.#of(experiment);
    const arm = armOf(watched, armName);
    watched.changed = true;
    sample(arm, "retry", failed > 0 ? 1 : 0);
    sample(arm, "cost", costNanoUsd);
    if (answerTokens > 0) sample(arm, "cost_per_1k", (costNanoUsd * 1_000) / answerTokens);
  }

  /** A shadow copy ended: it is compared, and kills nobody. */
  copied(experiment: Experiment, armName: string, ended: AttemptEnded): void {
    const failed = ended.outcome === Outcome.FAILED && ERRORS.has(ended.reason);
    if (!failed && ended.outcome !== Outcome.OK) return;
    const watched = this.#of(experiment);
    const arm = armOf(watched, shadowName(armName));
    watched.changed = true;
    observe(arm, failed || ended.garbage, ended);
    if (failed) return;
    observeAnswer(arm, ended);
    const cost = Number(ended.costNanoUsd);
    sample(arm, "cost", cost);
    if (ended.outputTokens > 0) sample(arm, "cost_per_1k", (cost * 1_000) / ended.outputTokens);
    const agreement = ended.review?.toolAgreement ?? ToolAgreement.UNSPECIFIED;
    if (agreement !== ToolAgreement.UNSPECIFIED) sample(arm, "tool_agreement", agreement === ToolAgreement.AGREES ? 1 : 0);
  }

  /** The breakers of all backends of an arm are open. */
  broken(experiment: Experiment, armName: string): void {
    if (armName === experiment.control || !isUnderWay(experiment)) return;
    this.#tell(experiment, this.#of(experiment), armName, "the breakers of all its backends are open");
  }

  #tell(experiment: Experiment, watched: WatchedExperiment, armName: string, reason: string): void {
    if (watched.toldRevision === experiment.revision) return;
    watched.toldRevision = experiment.revision;
    this.#onBreach({ experiment, arm: armName, reason: `arm ${armName}: ${reason}` });
  }

  #of(experiment: Experiment): WatchedExperiment {
    const run = runOf(experiment);
    let known = this.#watched.get(experiment.name);
    if (known?.run !== run) {
      known = { run, arms: new Map(), revision: experiment.revision, toldRevision: 0, changed: false };
      this.#watched.set(experiment.name, known);
    }
    if (known.revision !== experiment.revision) this.#recount(known, experiment.revision);
    return known;
  }

  /** Units are held against the weights of one revision; and what failed under another kills nobody. */
  #recount(watched: WatchedExperiment, revision: number): void {
    watched.revision = revision;
    for (const arm of watched.arms.values()) {
      arm.seen.clear();
      arm.units = 0;
      arm.consecutive = 0;
      arm.window = 0;
      arm.outcomes = 0;
    }
  }
}

function isUnderWay({ state }: Experiment): boolean {
  return state === "running" || state === "paused";
}

function armOf(watched: WatchedExperiment, name: string): Watched {
  const known = watched.arms.get(name);
  if (known !== undefined) return known;
  const fresh: Watched = { metrics: new Map(), seen: new Set(), units: 0, consecutive: 0, window: 0, outcomes: 0 };
  watched.arms.set(name, fresh);
  return fresh;
}

function sample(arm: Watched, metric: MetricName, value: number): void {
  let moments = arm.metrics.get(metric);
  if (moments === undefined) {
    moments = emptyMoments();
    arm.metrics.set(metric, moments);
  }
  addSample(moments, value);
}

function observe(arm: Watched, failed: boolean, ended: AttemptEnded): void {
  sample(arm, "error", failed ? 1 : 0);
  arm.consecutive = failed ? arm.consecutive + 1 : 0;
  arm.window = ((arm.window << 1) | (failed ? 1 : 0)) & ((1 << KILL_WINDOW) - 1);
  arm.outcomes++;
  if (failed) return;
  const { ttftMs, durationMs, outputTokens } = ended;
  if (ttftMs > 0) sample(arm, "ttft", Math.log(ttftMs));
  if (durationMs > 0) sample(arm, "duration", Math.log(durationMs));
  if (ttftMs > 0 && outputTokens > 1 && durationMs > ttftMs) sample(arm, "tpot", Math.log((durationMs - ttftMs) / (outputTokens - 1)));
}

/** What a whole answer was like; garbage is one too. */
function observeAnswer(arm: Watched, { review }: AttemptEnded): void {
  if (review === undefined) return;
  sample(arm, "refusal", review.refused ? 1 : 0);
  sample(arm, "empty", review.empty ? 1 : 0);
  if (review.textBytes > 0) sample(arm, "length", review.textBytes);
  if (review.schema !== SchemaCheck.UNSPECIFIED) sample(arm, "schema_valid", review.schema === SchemaCheck.VALID ? 1 : 0);
}

/** What needs no statistics. */
function killReason(arm: Watched): string | undefined {
  if (arm.consecutive >= KILL_CONSECUTIVE) return `${arm.consecutive} failures in a row`;
  if (arm.outcomes < KILL_WINDOW) return undefined;
  let failures = 0;
  for (let bits = arm.window; bits !== 0; bits &= bits - 1) failures++;
  return failures >= KILL_FAILURES ? `${failures} of the last ${KILL_WINDOW} failed` : undefined;
}
