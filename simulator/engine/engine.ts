import type { Clock, Timer } from "#libs/clock/index.ts";
import type { SpeedProfile } from "../profile.ts";
import { EngineCounters } from "./counters.ts";
import { SeedStream } from "./text.ts";

/** One request to compute. */
export interface Job {
  /** Prompt tokens, and those of them not found in the prefix cache. */
  readonly promptTokens: number;
  readonly uncachedTokens: number;
  /** Tokens to give, over all choices. */
  readonly steps: number;
  readonly sequences: number;
  /** Smaller runs earlier among the waiting. */
  readonly priority: number;
  /** Multiplies every time; 1 = normal. */
  readonly slowFactor: number;
  /** Tokens computed per call of `tokens`: 1 for a stream, more where nobody watches. */
  readonly batch: number;
  readonly sink: JobSink;
}

/** Who watches a job. */
export interface JobSink {
  /** `upTo` tokens are computed by now, in all. Answer false to pause; `resume` goes on. */
  tokens(upTo: number): boolean;
  /** All tokens are given. */
  done(): void;
}

/** A job in the engine. */
export interface RunningJob {
  /** Gives up its place; the sink hears nothing more. */
  cancel(): void;
  resume(): void;
  /** Whether prompt processing began. */
  readonly started: boolean;
}

/** KV tokens kept free for sequences that grow. */
const KV_WATERMARK_TOKENS = 64;

/** Prompt tokens processed in one iteration (`max_num_batched_tokens`). */
const CHUNK_TOKENS = 8192;

/** Tokens of one job handed over at one look at the clock: a late timer must not flood a slow reader. */
const BURST_MAX = 64;

type EngineSpeed = Extract<SpeedProfile, { kind: "engine" }>;

/**
 * One backend's compute: a running batch, a waiting queue, a KV cache, and times that grow with them. With a `cloud` speed the
 * batch has no bound and times do not depend on it; with a `fast` one a job is done before `submit` returns.
 */
export class Engine {
  readonly counters = new EngineCounters();
  readonly #clock: Clock;
  readonly #random: SeedStream;
  readonly #speed: SpeedProfile;
  readonly #timeScale: number;
  readonly #waiting: QueuedJob[] = [];
  #order = 0;
  #running = 0;
  #kvTokens = 0;
  #prefillTokens = 0;

  constructor(clock: Clock, seed: number, speed: SpeedProfile, timeScale: number) {
    this.#clock = clock;
    this.#random = new SeedStream(seed);
    this.#speed = speed;
    this.#timeScale = timeScale;
  }

  /** Sequences in the batch. */
  get running(): number {
    return this.#running;
  }

  /** Requests in the queue. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Share of the KV cache in use, 0..1. */
  get kvUsage(): number {
    return this.#speed.kind === "engine" ? Math.min(1, this.#kvTokens / this.#speed.kvCapacityTokens) : 0;
  }

  /** Tokens of the KV cache in use. */
  get kvTokens(): number {
    return this.#kvTokens;
  }

  submit(job: Job): RunningJob {
    const queued = new QueuedJob(this, job, this.#order++, this.#clock.monotonicMs());
    if (this.#speed.kind === "fast") {
      this.#runAtOnce(queued);
      return queued;
    }
    this.#waiting.push(queued);
    if (this.#waiting.length > 1) this.#waiting.sort((left, right) => left.job.priority - right.job.priority || left.order - right.order);
    this.#admit();
    return queued;
  }

  /** Called by a job that leaves, whatever the reason. */
  leave(queued: QueuedJob): void {
    queued.timer?.cancel();
    if (!queued.started) {
      const at = this.#waiting.indexOf(queued);
      if (at >= 0) this.#waiting.splice(at, 1);
      return;
    }
    this.#running -= queued.job.sequences;
    this.#kvTokens -= queued.job.promptTokens + queued.emitted;
    if (!queued.prefilled) this.#prefillTokens -= queued.job.uncachedTokens;
    this.counters.e2e.observeMs(this.#clock.monotonicMs() - queued.arrivedMs);
    this.#admit();
  }

  /** Sets the timer for the next token, or batch of them. */
  schedule(queued: QueuedJob): void {
    const { job } = queued;
    const last = Math.min(job.steps, queued.emitted + job.batch * job.sequences);
    queued.target = Math.max(last, 1);
    if (queued.emitted > 0 || job.batch > 1) {
      const slots = Math.ceil((queued.target - Math.max(1, queued.emitted)) / job.sequences);
      for (let slot = 0; slot < slots; slot++) queued.dueMs += this.#nextTokenMs() * job.slowFactor;
    }
    const delay = queued.dueMs - this.#clock.monotonicMs();
    queued.timer = this.#clock.after(Math.max(0, delay), () => this.#tick(queued));
  }

  #runAtOnce(queued: QueuedJob): void {
    const { job } = queued;
    queued.started = true;
    this.#running += job.sequences;
    this.#kvTokens += job.promptTokens;
    this.#prefillTokens += job.uncachedTokens;
    this.#count(queued, job.steps);
    job.sink.tokens(job.steps);
    if (!queued.left) queued.finish();
  }

  #admit(): void {
    for (let next = this.#waiting[0]; next && this.#fits(next.job); next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#start(next);
    }
  }

  #fits(job: Job): boolean {
    if (this.#speed.kind !== "engine" || this.#running === 0) return true;
    const free = this.#speed.kvCapacityTokens - KV_WATERMARK_TOKENS - this.#kvTokens;
    return this.#running + job.sequences <= this.#speed.maxSequences && job.promptTokens <= free;
  }

  #start(queued: QueuedJob): void {
    const { job } = queued;
    queued.started = true;
    this.#running += job.sequences;
    this.#kvTokens += job.promptTokens;
    this.#prefillTokens += job.uncachedTokens;
    const nowMs = this.#clock.monotonicMs();
    this.counters.queue.observeMs(nowMs - queued.arrivedMs);
    queued.dueMs = nowMs + this.#firstTokenMs(job) * job.slowFactor;
    this.schedule(queued);
  }

  #tick(queued: QueuedJob): void {
    const { job } = queued;
    const nowMs = this.#clock.monotonicMs();
    this.#count(queued, Math.min(queued.target, job.steps));
    // Timers fire late under load: what was due meanwhile comes at once, so that the mean pace holds.
    for (let burst = 0; burst < BURST_MAX && job.batch === 1 && queued.emitted < job.steps; burst++) {
      const gapMs = this.#nextTokenMs() * job.slowFactor;
      if (queued.dueMs + gapMs > nowMs) break;
      queued.dueMs += gapMs;
      this.#count(queued, Math.min(job.steps, queued.emitted + job.sequences));
    }
    const goOn = job.sink.tokens(queued.emitted);
    if (queued.left) return;
    if (queued.emitted >= job.steps) {
      queued.finish();
      return;
    }
    if (goOn) this.schedule(queued);
    else queued.paused = true;
  }

  #count(queued: QueuedJob, upTo: number): void {
    const nowMs = this.#clock.monotonicMs();
    const added = upTo - queued.emitted;
    if (!queued.prefilled) {
      queued.prefilled = true;
      this.#prefillTokens -= queued.job.uncachedTokens;
      this.counters.promptTokens += queued.job.promptTokens;
      this.counters.ttft.observeMs(nowMs - queued.arrivedMs);
    } else {
      this.counters.itl.observeMs((nowMs - queued.lastMs) / Math.max(1, added));
    }
    queued.lastMs = nowMs;
    this.#kvTokens += added;
    this.counters.generationTokens += added;
    queued.emitted = upTo;
  }

  #firstTokenMs(job: Job): number {
    const speed = this.#speed;
    if (speed.kind === "fast") return 0;
    if (speed.kind === "cloud") {
      const prefill = (speed.prefillMsPerToken ?? 0) * job.uncachedTokens;
      return (speed.ttftMs * this.#noise(speed.ttftSigma) + prefill) * this.#timeScale;
    }
    // A long prompt takes several iterations, each of which also carries the others' decoding.
    const iterations = Math.max(1, Math.ceil(this.#prefillTokens / CHUNK_TOKENS));
    const ms = speed.prefillMsPerToken * this.#prefillTokens + iterations * this.#iterationBaseMs(speed);
    return (speed.overheadMs + ms) * this.#noise(speed.sigma) * this.#timeScale;
  }

  #nextTokenMs(): number {
    const speed = this.#speed;
    if (speed.kind === "fast") return 0;
    if (speed.kind === "cloud") return speed.itlMs * this.#noise(speed.itlSigma) * this.#timeScale;
    return this.#iterationBaseMs(speed) * this.#noise(speed.sigma) * this.#timeScale;
  }

  #iterationBaseMs(speed: EngineSpeed): number {
    return speed.baseMs + speed.decodeMsPerSequence * this.#running + speed.kvMsPerToken * this.#kvTokens;
  }

  #noise(sigma: number): number {
    return sigma > 0 ? Math.exp(sigma * this.#random.normal()) : 1;
  }
}

/** A job's place in the engine; other rooms see it as a {@link RunningJob}. */
class QueuedJob implements RunningJob {
  readonly job: Job;
  readonly order: number;
  readonly arrivedMs: number;
  readonly #engine: Engine;
  started = false;
  prefilled = false;
  left = false;
  paused = false;
  emitted = 0;
  target = 0;
  dueMs = 0;
  lastMs = 0;
  timer: Timer | undefined;

  constructor(engine: Engine, job: Job, order: number, arrivedMs: number) {
    this.#engine = engine;
    this.job = job;
    this.order = order;
    this.arrivedMs = arrivedMs;
  }

  cancel(): void {
    if (this.left) return;
    this.left = true;
    this.#engine.leave(this);
  }

  resume(): void {
    if (this.left || !this.paused) return;
    this.paused = false;
    this.#engine.schedule(this);
  }

  finish(): void {
    this.left = true;
    this.#engine.leave(this);
    this.job.sink.done();
  }
}
