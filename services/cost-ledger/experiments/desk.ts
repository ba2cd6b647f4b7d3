import type { ExperimentComparison, ExperimentObservation } from "#gen/signalbox/control/v1/control_service_pb.ts";
import type { Clock } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { type Experiment, experimentsInForce, mergeObservations, type Observations, runOf } from "#libs/experiments/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import type { ScoreSums } from "../scores/answers.ts";
import type { LedgerStore } from "../store.ts";
import { type Actions, analyse, type DeskMemory, NO_MEMORY, PLAN } from "./analyse.ts";
import { comparisonOf } from "./comparison.ts";
import { FOLDED_SOURCE, foldSources, type ObservationRow, readObservations, type Source } from "./source-rows.ts";
import { scoresAsSource } from "./scores-as-source.ts";

/** How often what was seen is analysed and stored, ms. */
export const DESK_PERIOD_MS = 1_000;

/** Analyses of one experiment that may fail in a row before its plan waits for somebody to look (routing, section 1.13). */
const FAILURES_MAX = 4;

/** The source under which the analysis remembers where it was. */
const MEMORY_SOURCE = "#analysis";

/** What the desk needs. */
export interface DeskDeps {
  readonly store: LedgerStore;
  readonly config: ConfigSource;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Stored experiments, by name; undefined while control state is not known. */
  readonly stored: () => Readonly<Record<string, Uint8Array>> | undefined;
  readonly actions: Actions;
}

interface Watched {
  readonly run: string;
  readonly sources: Map<string, Source>;
  memory: DeskMemory;
  /** Analyses that failed in a row. */
  failures: number;
}

/**
 * Where everything that is seen of experiments comes together: absolute observations of every policy engine and the scores, added up,
 * analysed against the guards and the plans, and stored, so that neither an engine's restart nor this service's loses any.
 */
export class ExperimentDesk {
  readonly #deps: DeskDeps;
  readonly #watched = new Map<string, Watched>();
  readonly #dirty = new Set<string>();
  #loaded = false;
  #busy = false;

  constructor(deps: DeskDeps) {
    this.#deps = deps;
  }

  /** Takes in what an engine saw. */
  observe(source: string, observed: readonly ExperimentObservation[]): void {
    const inForce = this.#inForce();
    for (const { name, run, revision, arms } of observed) {
      const experiment = inForce.get(name);
      if (experiment === undefined || runOf(experiment) !== run) continue;
      const stored = Object.fromEntries(
        arms.map(({ arm, units, metrics }) => {
          const moments = Object.entries(metrics).map(([metric, { count, mean, m2 }]) => [metric, [count, mean, m2] as const]);
          return [arm, { units, metrics: Object.fromEntries(moments) as Record<string, readonly [number, number, number]> }];
        }),
      );
      this.#of(experiment).sources.set(source, {
        atMs: this.#deps.clock.now(),
        observations: { revision: Number(revision), arms: stored },
      });
      this.#dirty.add(`${name}\n${source}`);
    }
  }

  /** Stores what is new and looks at every experiment under way. Never rejects; what fails is tried again at the next. */
  async tick(): Promise<void> {
    if (this.#busy || !this.#deps.store.up) return;
    this.#busy = true;
    try {
      await this.#load();
      for (const experiment of this.#inForce().values()) await this.#tryToLook(experiment);
      await this.#save();
    } catch (error) {
      this.#deps.logger.warn({ error: String(error) }, "experiments could not be analysed; it is tried again");
    } finally {
      this.#busy = false;
    }
  }

  /** Arms side by side. Rejects with ROUTE_UNKNOWN when there is no such experiment. */
  async compare(name: string): Promise<ExperimentComparison> {
    const experiment = this.#inForce().get(name);
    if (experiment === undefined)
      throw new SignalboxError("ROUTE_UNKNOWN", "there is no such experiment", { code: "experiment_not_found", param: "name" });
    if (this.#deps.store.up) await this.#load();
    const seen = await this.#seen(experiment);
    return comparisonOf(experiment, seen, enginesOf(this.#of(experiment), experiment));
  }

  #inForce(): ReadonlyMap<string, Experiment> {
    return experimentsInForce(this.#deps.config.current, this.#deps.stored() ?? {});
  }

  /** What is known of an experiment's run; another run starts with nothing. */
  #of(experiment: Experiment): Watched {
    const run = runOf(experiment);
    const known = this.#watched.get(experiment.name);
    if (known?.run === run) return known;
    const fresh: Watched = { run, sources: new Map(), memory: NO_MEMORY, failures: 0 };
    this.#watched.set(experiment.name, fresh);
    return fresh;
  }

  async #seen(experiment: Experiment): Promise<Observations> {
    const sources = [...this.#of(experiment).sources.values()].map(({ observations }) => observations);
    const scores: readonly ScoreSums[] = this.#deps.store.up ? await this.#deps.store.scoreSums(experiment.name) : [];
    return mergeObservations([...sources, scoresAsSource(experiment, scores)], experiment.revision);
  }

  /** One experiment that cannot be analysed keeps no other from it; and a plan does not go on unseen. */
  async #tryToLook(experiment: Experiment): Promise<void> {
    const watched = this.#of(experiment);
    try {
      await this.#look(experiment, watched);
      watched.failures = 0;
    } catch (error) {
      watched.failures++;
      this.#deps.logger.warn(
        { error: String(error), experiment: experiment.name },
        "an experiment could not be analysed; it is tried again",
      );
      if (watched.failures < FAILURES_MAX || experiment.plan === undefined || experiment.state !== "running") return;
      await this.#deps.actions.pause(experiment, PLAN, `the analysis failed ${watched.failures} times in a row`);
    }
  }

  async #look(experiment: Experiment, watched: Watched): Promise<void> {
    if (experiment.state !== "running" && experiment.state !== "paused") return;
    const seen = await this.#seen(experiment);
    const before = watched.memory;
    const context = { engines: enginesOf(watched, experiment), nowMs: this.#deps.clock.now(), logger: this.#deps.logger };
    watched.memory = await analyse(experiment, seen, before, context, this.#deps.actions);
    if (watched.memory !== before) this.#dirty.add(`${experiment.name}\n${MEMORY_SOURCE}`);
  }

  /** Reads what was stored before; with a shared store, what the others stored meanwhile too. */
  async #load(): Promise<void> {
    const { store } = this.#deps;
    if (this.#loaded && store.kind === "sqlite") return;
    const inForce = this.#inForce();
    if (inForce.size > 0) {
      for (const row of await store.loadObservations()) {
        const experiment = inForce.get(row.experiment);
        if (experiment !== undefined && runOf(experiment) === row.run) this.#take(this.#of(experiment), row);
      }
    }
    this.#loaded = this.#deps.stored() !== undefined;
  }

  #take(watched: Watched, row: ObservationRow): void {
    if (row.source === MEMORY_SOURCE) {
      if (watched.memory === NO_MEMORY) watched.memory = JSON.parse(row.state) as DeskMemory;
      return;
    }
    const known = watched.sources.get(row.source);
    const observations = readObservations(row.state);
    if (observations !== undefined && (known === undefined || known.atMs < row.atMs))
      watched.sources.set(row.source, { atMs: row.atMs, observations });
  }

  async #save(): Promise<void> {
    const rows: ObservationRow[] = [];
    const nowMs = this.#deps.clock.now();
    for (const [experiment, { run, sources, memory }] of this.#watched) {
      for (const source of foldSources(sources, nowMs)) {
        this.#dirty.add(`${experiment}\n${FOLDED_SOURCE}`);
        await this.#deps.store.dropObservations(experiment, source);
      }
      for (const [source, { atMs, observations }] of sources) {
        if (this.#dirty.has(`${experiment}\n${source}`)) rows.push({ experiment, source, run, atMs, state: JSON.stringify(observations) });
      }
      if (this.#dirty.has(`${experiment}\n${MEMORY_SOURCE}`))
        rows.push({ experiment, source: MEMORY_SOURCE, run, atMs: nowMs, state: JSON.stringify(memory) });
    }
    this.#dirty.clear();
    if (rows.length > 0) await this.#deps.store.saveObservations(rows);
  }
}

/** Engines that assigned units under the revision in force. */
function enginesOf({ sources }: Watched, { revision }: Experiment): number {
  let engines = 0;
  for (const { observations } of sources.values()) if (observations.revision === revision) engines++;
  return engines;
}
