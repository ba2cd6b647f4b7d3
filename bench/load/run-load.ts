import { Connection, type Outcome } from "./connection.ts";
import { requestBytes, type LoadOptions } from "./options.ts";
import { Recorder, type LoadReport } from "./report.ts";

/** Where a run stands. */
export type Phase = "warming" | "measuring" | "draining" | "done";

/** What a run tells while it goes. */
export interface LoadWatcher {
  phase?(phase: Phase): void;
  /** About ten times a second. */
  progress?(elapsedMs: number): void;
}

/** Connections an open-loop run opens at most; what is due beyond waits, and its waiting counts. */
const OPEN_CONNECTIONS_MAX = 4096;

/** How long requests under way may take to end after an open-loop run, ms; later they count as errors. */
const DRAIN_MS = 15_000;

/**
 * The timer's own grain, ms: a request begun this late counts from its real start, since the lateness is the generator's. Anything
 * later counts from the intended start.
 */
const TIMER_GRAIN_MS = 2.5;

/** A closed-loop connection that failed waits this long before it tries again, ms, so that a dead server is not hammered. */
const FAILURE_PAUSE_MS = 20;

const PROGRESS_MS = 100;

/** Runs one load and resolves with what was measured. Never rejects: a dead server is a report full of errors. */
export function runLoad(options: LoadOptions, watcher: LoadWatcher = {}): Promise<LoadReport> {
  return new Promise((resolve) => new LoadRun(options, watcher, resolve).start());
}

class LoadRun {
  readonly #options: LoadOptions;
  readonly #watcher: LoadWatcher;
  readonly #resolve: (report: LoadReport) => void;
  readonly #recorder = new Recorder();
  readonly #request: Buffer;
  readonly #connections: Connection[] = [];
  readonly #idle: Connection[] = [];
  #beganMs = 0;
  #measureFromMs = 0;
  #measureToMs = 0;
  /** Open loop: requests begun so far, and those under way. */
  #begun = 0;
  #underWay = 0;
  #backlog = 0;
  #isOver = false;
  #progress: NodeJS.Timeout | undefined;
  #drainTimer: NodeJS.Timeout | undefined;

  constructor(options: LoadOptions, watcher: LoadWatcher, resolve: (report: LoadReport) => void) {
    this.#options = options;
    this.#watcher = watcher;
    this.#resolve = resolve;
    this.#request = requestBytes(options);
  }

  start(): void {
    const { pace, warmupMs, durationMs } = this.#options;
    this.#beganMs = performance.now();
    this.#measureFromMs = this.#beganMs + warmupMs;
    this.#measureToMs = this.#measureFromMs + durationMs;
    this.#watcher.phase?.("warming");
    setTimeout(() => this.#watcher.phase?.("measuring"), warmupMs);
    setTimeout(() => this.#stop(), warmupMs + durationMs);
    this.#progress = setInterval(() => this.#watcher.progress?.(performance.now() - this.#beganMs), PROGRESS_MS);
    if (pace.kind === "open") return this.#tick();
    for (let index = 0; index < pace.concurrency; index++) this.#connect().send(performance.now());
  }

  #connect(): Connection {
    const connection = new Connection(this.#options, this.#request, { done: (idle, outcome) => this.#done(idle, outcome) });
    this.#connections.push(connection);
    return connection;
  }

  #done(connection: Connection, outcome: Outcome): void {
    const isOpen = this.#options.pace.kind === "open";
    const counts = isOpen ? outcome.startMs : outcome.endMs;
    if (counts >= this.#measureFromMs && counts < this.#measureToMs) this.#record(outcome);
    if (isOpen) {
      this.#underWay--;
      this.#idle.push(connection);
      if (this.#isOver && this.#underWay === 0) this.#finish();
      return;
    }
    if (this.#isOver) return;
    if (outcome.problem === undefined) connection.send(performance.now());
    else setTimeout(() => !this.#isOver && connection.send(performance.now()), FAILURE_PAUSE_MS);
  }

  #record({ startMs, firstMs, endMs, events, problem }: Outcome): void {
    if (problem !== undefined) return this.#recorder.error(problem);
    const between = this.#options.stream && events > 2 ? (endMs - firstMs) / (events - 2) : undefined;
    this.#recorder.ok(endMs - startMs, firstMs - startMs, between, events);
  }

  /** Open loop: begins what is due, then sleeps. It never polls: the upstream lives on the same core, and would answer between two turns of ours. */
  #tick(): void {
    if (this.#isOver || this.#options.pace.kind !== "open") return;
    const gapMs = 1000 / this.#options.pace.rps;
    const nowMs = performance.now();
    while (this.#dueMs(gapMs) <= nowMs) if (!this.#begin(this.#dueMs(gapMs), nowMs)) break;
    setTimeout(() => this.#tick(), Math.max(1, this.#dueMs(gapMs) - performance.now() - 1));
  }

  #dueMs(gapMs: number): number {
    return this.#beganMs + this.#begun * gapMs;
  }

  #begin(dueMs: number, nowMs: number): boolean {
    const free = this.#idle.pop() ?? (this.#connections.length < OPEN_CONNECTIONS_MAX ? this.#connect() : undefined);
    if (free === undefined) return false;
    this.#begun++;
    this.#underWay++;
    free.send(nowMs - dueMs <= TIMER_GRAIN_MS ? nowMs : dueMs);
    return true;
  }

  #stop(): void {
    this.#isOver = true;
    const { pace } = this.#options;
    if (pace.kind === "closed") return this.#finish();
    this.#backlog = Math.max(0, Math.floor(((this.#measureToMs - this.#beganMs) * pace.rps) / 1000) - this.#begun);
    this.#watcher.phase?.("draining");
    if (this.#underWay === 0) return this.#finish();
    this.#drainTimer = setTimeout(() => {
      for (let left = this.#underWay; left > 0; left--) this.#recorder.error("did not end");
      this.#finish();
    }, DRAIN_MS);
  }

  #finish(): void {
    clearInterval(this.#progress);
    clearTimeout(this.#drainTimer);
    for (const connection of this.#connections) connection.destroy();
    this.#watcher.phase?.("done");
    this.#resolve(this.#recorder.report(this.#options.durationMs, this.#backlog));
  }
}
