import type { Clock, LoopLag, Timer } from "#libs/clock/index.ts";
import type { SignalboxError } from "#libs/errors/index.ts";
import type { Metrics } from "#libs/telemetry/index.ts";
import type { Intake } from "../intake.ts";
import type { InternalCall, InternalEnd, InternalTraffic } from "../internal.ts";
import { COLLECT_MAX_BYTES } from "./collected.ts";

/** Mean lateness of the event loop from which work beside the clients' is dropped and given up, ms: far below where clients are refused. */
export const SIDE_LAG_MS = 25;

/** How often the event loop is looked at while such work is under way, ms. */
const WATCH_MS = 250;

/** After an experiment's budget was spent nothing is tried for this long, ms: it may have been raised. */
const SPENT_PAUSE_MS = 30_000;

/** Experiments whose budgets are remembered as spent. */
const SPENT_MAX = 100;

/** What became of a piece of work. */
export type SideFate =
  | "answered"
  | "failed"
  | "aborted"
  | "garbage"
  | "dropped_queue"
  | "dropped_memory"
  | "dropped_lag"
  | "dropped_budget";

/** A request the gateway makes beside the clients'. */
export interface SideJob {
  readonly experiment: string;
  /** What it keeps alive while it waits and runs. */
  readonly bytes: number;
  /** The request, made when its turn comes; undefined = there is nothing to ask after all. */
  intake(): Intake | undefined;
  /** Takes the answer; returns what became of it. Absent = nothing is done with it. */
  answered?(pieces: readonly Uint8Array[]): SideFate;
}

/** Bounds of one kind of work. */
export interface SideLimits {
  /** Jobs that wait; more are dropped. */
  readonly queueMax: number;
  /** Jobs under way at once, per process: what a backend that hangs can hold. */
  readonly runningMax: number;
  /** Bytes kept alive by waiting and running jobs. */
  readonly bytesMax: number;
}

/** What {@link SideQueue} needs. */
export interface SideQueueDeps {
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly loopLag: LoopLag;
  readonly traffic: InternalTraffic;
}

/** Work beside the clients' requests: bounded in number and bytes, begun in a later turn of the loop, and the first to give way. */
export class SideQueue {
  readonly #deps: SideQueueDeps;
  readonly #limits: SideLimits;
  readonly #fates;
  #queue: SideJob[] = [];
  readonly #running = new Map<SideJob, InternalCall>();
  #bytes = 0;
  #watch: Timer | undefined;
  #pump: Timer | undefined;
  #closed = false;
  /** When an experiment's budget is asked again, monotonic ms. */
  readonly #spentUntil = new Map<string, number>();

  /** `kind` names its metrics: `signalbox_<kind>_total`, `_queue`, `_running`, `_bytes`. */
  constructor(kind: string, what: string, deps: SideQueueDeps, limits: SideLimits) {
    this.#deps = deps;
    this.#limits = limits;
    const { metrics } = deps;
    this.#fates = metrics.counter(`signalbox_${kind}_total`, `${what} by what became of them.`, ["experiment", "fate"]);
    const waiting = metrics.gauge(`signalbox_${kind}_queue`, `${what} that wait.`).with();
    const running = metrics.gauge(`signalbox_${kind}_running`, `${what} under way.`).with();
    const bytes = metrics.gauge(`signalbox_${kind}_bytes`, `Bytes kept for ${what.toLowerCase()}.`).with();
    metrics.onScrape(() => {
      waiting.set(this.#queue.length);
      running.set(this.#running.size);
      bytes.set(this.#bytes);
    });
  }

  /** Whether a job of this experiment could be taken at all now; counts the one that could not. */
  admits(experiment: string): boolean {
    if (this.#closed) return false;
    if ((this.#spentUntil.get(experiment) ?? 0) <= this.#deps.clock.monotonicMs()) return true;
    this.#count(experiment, "dropped_budget");
    return false;
  }

  /** Takes a job, or drops it. Never holds its caller up. */
  offer(job: SideJob): void {
    if (this.#closed) return;
    const { experiment, bytes } = job;
    if (this.#isLate) return this.#count(experiment, "dropped_lag");
    if (this.#queue.length >= this.#limits.queueMax) return this.#count(experiment, "dropped_queue");
    if (this.#bytes + bytes > this.#limits.bytesMax) return this.#count(experiment, "dropped_memory");
    this.#bytes += bytes;
    this.#queue.push(job);
    // Not in this turn of the loop: the client's last bytes go first.
    this.#pump ??= this.#deps.clock.after(0, () => {
      this.#pump = undefined;
      this.#send();
    });
  }

  /** Nothing more is taken; what runs is given up. */
  close(): void {
    this.#closed = true;
    this.#pump?.cancel();
    this.#drop("aborted");
  }

  get #isLate(): boolean {
    return this.#deps.loopLag.lagMs >= SIDE_LAG_MS;
  }

  #send(): void {
    if (this.#isLate) return this.#drop("dropped_lag");
    while (this.#running.size < this.#limits.runningMax && this.#queue.length > 0) this.#start(this.#queue.shift()!);
  }

  #start(job: SideJob): void {
    const intake = job.intake();
    if (intake === undefined) {
      this.#bytes -= job.bytes;
      return;
    }
    const state = { over: false };
    const call = this.#deps.traffic.run(intake, COLLECT_MAX_BYTES, (end) => {
      state.over = true;
      this.#ended(job, end);
    });
    if (state.over) return;
    this.#running.set(job, call);
    this.#watch ??= this.#deps.clock.every(WATCH_MS, () => this.#giveWay());
  }

  #ended(job: SideJob, { pieces, error }: InternalEnd): void {
    this.#running.delete(job);
    this.#bytes -= job.bytes;
    if (error?.reason === "BUDGET_EXHAUSTED" && this.#spentUntil.size < SPENT_MAX)
      this.#spentUntil.set(job.experiment, this.#deps.clock.monotonicMs() + SPENT_PAUSE_MS);
    const taken = error === undefined ? job.answered?.(pieces ?? []) : undefined;
    this.#count(job.experiment, taken ?? fateOf(error));
    if (this.#queue.length > 0) this.#send();
    if (this.#running.size > 0 || this.#watch === undefined) return;
    this.#watch.cancel();
    this.#watch = undefined;
  }

  /** The loop is late, whatever made it so. */
  #giveWay(): void {
    if (this.#isLate) this.#drop("dropped_lag");
  }

  #drop(fate: SideFate): void {
    const queue = this.#queue;
    this.#queue = [];
    for (const { experiment, bytes } of queue) {
      this.#bytes -= bytes;
      this.#count(experiment, fate);
    }
    for (const call of this.#running.values()) call.cancel();
  }

  #count(experiment: string, fate: SideFate): void {
    this.#fates.with(experiment, fate).add();
  }
}

function fateOf(error: SignalboxError | undefined): SideFate {
  if (error === undefined) return "answered";
  if (error.reason === "BUDGET_EXHAUSTED") return "dropped_budget";
  return error.reason === "CANCELED" ? "aborted" : "failed";
}
