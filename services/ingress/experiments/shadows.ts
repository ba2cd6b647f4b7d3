import { type Decision, RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Clock, LoopLag, Timer } from "#libs/clock/index.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { systemTeam } from "#libs/money/index.ts";
import type { Counter, Family, Metrics } from "#libs/telemetry/index.ts";
import type { Attendance, Witness } from "../decisions.ts";
import type { Intake } from "../intake.ts";
import type { InternalCall, InternalEnd, InternalTraffic } from "../internal.ts";
import type { RequestSummary } from "../summary.ts";
import { COLLECT_MAX_BYTES } from "./collected.ts";
import { readSaid } from "./said.ts";

/** Copies that wait to be sent; more are dropped: a copy is a sample, not a debt. */
export const SHADOW_QUEUE_MAX = 256;

/** Copies under way at once, per ingress process: what a backend that hangs can hold. */
export const SHADOW_RUNNING_MAX = 16;

/** Bodies and answers that waiting and running copies keep alive, bytes. */
export const SHADOW_BYTES_MAX = 32 * 1024 * 1024;

/** A copy is given up after this, ms. */
export const SHADOW_DEADLINE_MS = 60_000;

/** Mean lateness of the event loop from which copies are dropped and given up, ms: far below where clients are refused. */
export const SHADOW_LAG_MS = 25;

/** How often the event loop is looked at while copies are under way, ms. */
const WATCH_MS = 250;

/** After an experiment's budget was spent nothing is copied for this long, ms: it may have been raised. */
const SPENT_PAUSE_MS = 30_000;

/** Experiments whose budgets are remembered as spent. */
const SPENT_MAX = 100;

/** What became of a copy. */
type Fate = "answered" | "failed" | "aborted" | "dropped_queue" | "dropped_memory" | "dropped_lag" | "dropped_budget";

/** What {@link Shadows} needs. */
export interface ShadowDeps {
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly loopLag: LoopLag;
  readonly traffic: InternalTraffic;
  readonly nextId: () => string;
}

/** A copy that waits. */
interface Copy {
  readonly intake: Intake;
  readonly decision: Decision;
  readonly body: Uint8Array;
  /** The client's answer. */
  readonly pieces: readonly Uint8Array[] | undefined;
  readonly bytes: number;
}

/**
 * Copies of clients' requests to arms whose answers nobody sees. A copy is made after the client has its answer, from the very bytes it
 * sent; it waits in a bounded queue, is paid by the experiment, goes as class batch, and is the first to give way when the process is busy.
 */
export class Shadows implements Witness {
  readonly #deps: ShadowDeps;
  readonly #copies: Family<Counter>;
  #queue: Copy[] = [];
  readonly #running = new Map<Copy, InternalCall>();
  #bytes = 0;
  #timer: Timer | undefined;
  #pump: Timer | undefined;
  #closed = false;
  /** When copies of an experiment may be made again, monotonic ms. */
  readonly #spentUntil = new Map<string, number>();

  constructor(deps: ShadowDeps) {
    this.#deps = deps;
    this.#copies = deps.metrics.counter("signalbox_shadow_copies_total", "Shadow copies by what became of them.", ["experiment", "fate"]);
    const waiting = deps.metrics.gauge("signalbox_shadow_queue", "Shadow copies that wait to be sent.").with();
    const running = deps.metrics.gauge("signalbox_shadow_running", "Shadow copies under way.").with();
    const bytes = deps.metrics.gauge("signalbox_shadow_bytes", "Bytes kept for shadow copies.").with();
    deps.metrics.onScrape(() => {
      waiting.set(this.#queue.length);
      running.set(this.#running.size);
      bytes.set(this.#bytes);
    });
  }

  attend(intake: Intake, decision: Decision): Attendance | undefined {
    if (decision.shadowExperiment === "" || this.#closed) return undefined;
    if ((this.#spentUntil.get(decision.shadowExperiment) ?? 0) > this.#deps.clock.monotonicMs()) {
      this.#count(decision, "dropped_budget");
      return undefined;
    }
    const { body } = intake;
    return { finished: (summary) => this.#offer(intake, decision, body, summary) };
  }

  /** No more copies: the process leaves. */
  close(): void {
    this.#closed = true;
    this.#pump?.cancel();
    this.#drop("aborted");
  }

  #offer(intake: Intake, decision: Decision, body: Uint8Array, { status, winner }: RequestSummary): void {
    // A request that failed or was left has no answer to hold a copy's against.
    if (this.#closed || status !== 200 || winner === undefined || winner.resume !== undefined) return;
    const pieces = winner.collected?.pieces;
    const copy: Copy = { intake, decision, body, pieces, bytes: body.length + (winner.collected?.bytes ?? 0) };
    if (this.#isLate) return this.#count(decision, "dropped_lag");
    if (this.#queue.length >= SHADOW_QUEUE_MAX) return this.#count(decision, "dropped_queue");
    if (this.#bytes + copy.bytes > SHADOW_BYTES_MAX) return this.#count(decision, "dropped_memory");
    this.#bytes += copy.bytes;
    this.#queue.push(copy);
    // Not in this turn of the loop: the client's last bytes go first.
    this.#pump ??= this.#deps.clock.after(0, () => {
      this.#pump = undefined;
      this.#send();
    });
  }

  get #isLate(): boolean {
    return this.#deps.loopLag.lagMs >= SHADOW_LAG_MS;
  }

  #send(): void {
    if (this.#isLate) return this.#drop("dropped_lag");
    while (this.#running.size < SHADOW_RUNNING_MAX && this.#queue.length > 0) this.#start(this.#queue.shift()!);
  }

  #start(copy: Copy): void {
    const ended = { value: false };
    const call = this.#deps.traffic.run(this.#intakeOf(copy), COLLECT_MAX_BYTES, (end) => {
      ended.value = true;
      this.#ended(copy, end);
    });
    if (ended.value) return;
    this.#running.set(copy, call);
    this.#timer ??= this.#deps.clock.every(WATCH_MS, () => this.#watch());
  }

  #intakeOf({ intake, decision, body, pieces }: Copy): Intake {
    const { clock, nextId } = this.#deps;
    const { shadowExperiment: experiment, shadowArm: arm } = decision;
    return {
      ...intake,
      requestId: `${intake.requestId}:shadow`,
      body,
      resumable: false,
      shareable: false,
      trace: { ...intake.trace, sampled: false },
      startedAtMs: clock.now(),
      startedMs: clock.monotonicMs(),
      decide: {
        ...intake.decide,
        decisionId: nextId(),
        requestId: `${intake.requestId}:shadow`,
        requestClass: RequestClass.BATCH,
        ttftTargetMs: 0,
        deadlineMs: SHADOW_DEADLINE_MS,
        maxCostNanoUsd: 0n,
        exclude: [],
        explain: false,
        forcedArm: `${experiment}=${arm}`,
        role: "shadow",
      },
      internal: {
        team: systemTeam("shadow", experiment),
        experiment,
        arm,
        revision: decision.experimentRevision,
        compare: pieces && readSaid(pieces, intake.stream),
      },
    };
  }

  #ended(copy: Copy, { error }: InternalEnd): void {
    this.#running.delete(copy);
    this.#bytes -= copy.bytes;
    const { shadowExperiment } = copy.decision;
    if (error?.reason === "BUDGET_EXHAUSTED") {
      if (this.#spentUntil.size < SPENT_MAX) this.#spentUntil.set(shadowExperiment, this.#deps.clock.monotonicMs() + SPENT_PAUSE_MS);
      this.#count(copy.decision, "dropped_budget");
    } else this.#count(copy.decision, fateOf(error));
    if (this.#queue.length > 0) this.#send();
    if (this.#running.size > 0 || this.#timer === undefined) return;
    this.#timer.cancel();
    this.#timer = undefined;
  }

  /** Gives way when the loop is late, whatever made it so. */
  #watch(): void {
    if (this.#isLate) this.#drop("dropped_lag");
  }

  #drop(fate: Fate): void {
    const queue = this.#queue;
    this.#queue = [];
    for (const { decision, bytes } of queue) {
      this.#bytes -= bytes;
      this.#count(decision, fate);
    }
    for (const call of this.#running.values()) call.cancel();
  }

  #count({ shadowExperiment }: Decision, fate: Fate): void {
    this.#copies.with(shadowExperiment, fate).add();
  }
}

function fateOf(error: SignalboxError | undefined): Fate {
  if (error === undefined) return "answered";
  return error.reason === "CANCELED" ? "aborted" : "failed";
}
