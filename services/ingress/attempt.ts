import type { AttemptData, AttemptEnd } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import type { Candidate, Decision } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Clock } from "#libs/clock/index.ts";
import { ATTEMPT_WINDOW_BYTES, type AttemptHandle, type AttemptSink, type CancelReason, type PolicyPeer } from "#libs/peers/index.ts";
import type { SignalboxError } from "#libs/errors/index.ts";
import type { Collected } from "./experiments/collected.ts";
import { internalError } from "./failures.ts";
import type { Intake } from "./intake.ts";
import { ATTEMPT_GRACE_MS, GAP_SAMPLE_MS } from "./limits.ts";
import type { AttemptIdentity, Settlement } from "./money.ts";
import { firstTokenReport, gapReport } from "./reports.ts";
import type { ResumePlan } from "./resume.ts";

/** Grants are bundled up to this size: half a window keeps the adapter busy and the frames few. */
const CREDIT_BATCH_BYTES = ATTEMPT_WINDOW_BYTES / 2;

/** Who acts on what an attempt delivers. */
export interface AttemptOwner {
  /** Bytes arrived and are held by the attempt. */
  arrived(attempt: Attempt): void;
  /** The end; nothing follows. */
  ended(attempt: Attempt, end: AttemptEnd): void;
  /** A mistake of ours while one of the above was handled: the request cannot go on. */
  broke(error: SignalboxError): void;
}

/** What distinguishes one attempt from the next. */
export interface AttemptPlan {
  readonly intake: Intake;
  readonly decision: Decision;
  readonly candidate: Candidate;
  readonly attemptId: string;
  readonly number: number;
  readonly hedge: boolean;
  readonly spanId: string;
  /** Ceiling for the first content byte, ms. */
  readonly firstTokenTimeoutMs: number;
  /** What it continues; undefined = it answers from the start. */
  readonly resume: ResumePlan | undefined;
  /** Takes the answer in, where arms are compared. */
  readonly collected: Collected | undefined;
}

/**
 * One call to one backend as the ingress sees it: holds what arrived until the owner takes it, keeps the window, measures
 * and reports what it measured.
 * It decides nothing.
 */
export class Attempt implements AttemptSink, AttemptIdentity {
  readonly intake: Intake;
  readonly decision: Decision;
  readonly candidate: Candidate;
  readonly attemptId: string;
  readonly number: number;
  readonly hedge: boolean;
  readonly spanId: string;
  readonly firstTokenTimeoutMs: number;
  readonly resume: ResumePlan | undefined;
  readonly startedAtMs: number;
  /** Monotonic. */
  readonly startedMs: number;
  reservedNanoUsd = 0n;
  #excusedMs = 0;
  /** Monotonic; 0 while running. */
  endedMs = 0;
  handle: AttemptHandle | undefined;
  result: AttemptEnd | undefined;
  settlement: Settlement | undefined;
  /** Whether its intent lets an answer leave. */
  released = false;
  /** Given up by the ingress; its end is only settled. */
  abandoned = false;
  /** Given up for a request of a better class. */
  preempted = false;
  contentSeen = false;
  contentEvents = 0;
  ttftMs = 0;
  /** GPU-share integral at the start. */
  gpuStart = 0;
  heldBytes = 0;
  #held: Uint8Array[] = [];
  #heldAt = 0;
  #credit = 0;
  #sampledMs = 0;
  #sampledEvents = 0;
  #cancelled: CancelReason | undefined;
  /** What came, for the comparison of arms; undefined outside of experiments. */
  readonly collected: Collected | undefined;
  readonly #clock: Clock;
  readonly #policy: Pick<PolicyPeer, "report">;
  readonly #owner: AttemptOwner;

  constructor(plan: AttemptPlan, clock: Clock, policy: Pick<PolicyPeer, "report">, owner: AttemptOwner) {
    this.intake = plan.intake;
    this.decision = plan.decision;
    this.candidate = plan.candidate;
    this.attemptId = plan.attemptId;
    this.number = plan.number;
    this.hedge = plan.hedge;
    this.spanId = plan.spanId;
    this.firstTokenTimeoutMs = plan.firstTokenTimeoutMs;
    this.resume = plan.resume;
    this.startedMs = clock.monotonicMs();
    this.startedAtMs = clock.now();
    this.collected = plan.collected;
    this.#clock = clock;
    this.#policy = policy;
    this.#owner = owner;
  }

  get backend(): string {
    return this.candidate.backend;
  }

  data(data: AttemptData): void {
    if (this.result !== undefined) return;
    const length = data.data.length;
    if (length > 0) {
      this.#held.push(data.data);
      this.heldBytes += length;
      this.collected?.add(data.data);
    }
    try {
      if (data.content) this.#measure(data.contentEvents);
      this.#owner.arrived(this);
    } catch (cause) {
      this.#owner.broke(internalError(cause));
    }
  }

  end(end: AttemptEnd): void {
    if (this.result !== undefined) return;
    this.result = end;
    this.endedMs = this.#clock.monotonicMs();
    try {
      this.#owner.ended(this, end);
    } catch (cause) {
      this.#owner.broke(internalError(cause));
    }
  }

  /** The next held piece, or undefined. Its bytes still count against the window until {@link consumed}. */
  take(): Uint8Array | undefined {
    const piece = this.#held[this.#heldAt];
    if (piece === undefined) return undefined;
    this.heldBytes -= piece.length;
    if (++this.#heldAt === this.#held.length) {
      this.#held = [];
      this.#heldAt = 0;
    }
    return piece;
  }

  /** All held pieces, left in place. */
  get held(): readonly Uint8Array[] {
    return this.#held;
  }

  /** Drops what is held. */
  forget(): void {
    this.#held = [];
    this.#heldAt = 0;
    this.heldBytes = 0;
  }

  /** `bytes` left our hands: the window opens, in batches. */
  consumed(bytes: number): void {
    this.#credit += bytes;
    if (this.#credit < CREDIT_BATCH_BYTES || this.result !== undefined) return;
    this.handle?.consumed(this.#credit);
    this.#credit = 0;
  }

  /** Ends the call; its end still follows. Once. */
  cancel(reason: CancelReason): void {
    if (this.result !== undefined || this.#cancelled !== undefined) return;
    this.#cancelled = reason;
    this.handle?.cancel(reason);
  }

  /** Whether it runs and nothing of its answer has come. */
  get isSilent(): boolean {
    return !this.abandoned && !this.contentSeen && this.result === undefined && this.handle !== undefined;
  }

  /** For `lostMs` until now this process stood still: what has come meanwhile is not here yet, and nobody is to blame for that. */
  excuse(nowMs: number, lostMs: number): void {
    this.#excusedMs = Math.min(nowMs - this.startedMs, this.#excusedMs + lostMs);
  }

  /** What an attempt without content is due for at its age; undefined = nothing. */
  due(nowMs: number): "late" | "hedge" | undefined {
    if (!this.isSilent) return undefined;
    const ageMs = nowMs - this.startedMs - this.#excusedMs;
    if (ageMs >= this.firstTokenTimeoutMs + ATTEMPT_GRACE_MS) return "late";
    return this.candidate.hedgeAfterMs > 0 && ageMs >= this.candidate.hedgeAfterMs ? "hedge" : undefined;
  }

  #measure(events: number): void {
    const nowMs = this.#clock.monotonicMs();
    this.contentEvents += events;
    if (!this.contentSeen) {
      this.contentSeen = true;
      this.ttftMs = nowMs - this.startedMs;
      this.#sampledMs = nowMs;
      this.#sampledEvents = this.contentEvents;
      this.#policy.report(firstTokenReport(this.intake.decide.decisionId, this.attemptId, this.backend, this.ttftMs));
      return;
    }
    const elapsedMs = nowMs - this.#sampledMs;
    const fresh = this.contentEvents - this.#sampledEvents;
    if (elapsedMs < GAP_SAMPLE_MS || fresh === 0) return;
    this.#sampledMs = nowMs;
    this.#sampledEvents = this.contentEvents;
    this.#policy.report(gapReport(this.intake.decide.decisionId, this.attemptId, this.backend, elapsedMs / fresh, this.contentEvents));
  }
}
