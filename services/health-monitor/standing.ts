import { BreakerState, HealthState } from "#gen/signalbox/health/v1/health_service_pb.ts";
import type { Random } from "#libs/clock/index.ts";
import type { Finding } from "./detectors.ts";

/** First and longest statistical ejection come from the breaker's settings; chance takes up to this share off. */
const JITTER = 0.2;
/** Successes that end the trying-out. */
const PROVEN_SUCCESSES = 2;
/** Time without an open breaker after which a backend nobody calls counts as well again, ms. */
const PROVEN_BY_TIME_MS = 30_000;
/** Well-being after which earlier ejections are forgotten, ms. */
const FORGIVE_MS = 300_000;

/** What a verdict rests on at one moment. */
export interface Evidence {
  /** The engines' breakers are agreed to be open. */
  readonly agreed: boolean;
  /** Engines that have it open, and how many there are. */
  readonly votes: { readonly open: number; readonly engines: number };
  /** Result of the liveness calls; undefined = never called. */
  readonly live: boolean | undefined;
  readonly finding: Finding;
  /** Whether the pool allows a statistical ejection now. */
  readonly mayEject: boolean;
  /** Whether so much of the pool is out that statistical ejections do not count. */
  readonly panic: boolean;
}

/** Durations of statistical ejections. */
export interface EjectionTimes {
  readonly openMs: number;
  readonly maxOpenMs: number;
}

interface Verdict {
  readonly state: HealthState;
  readonly breaker: BreakerState;
  readonly reason: string;
}

/** The published state of one backend and the only place where it changes. */
export class Standing {
  state: HealthState = HealthState.UNSPECIFIED;
  breaker: BreakerState = BreakerState.CLOSED;
  reason = "";
  changes = 0n;
  /** Latest change, monotonic ms. */
  changedAtMs = 0;
  #ejections = 0;
  #ejectedUntilMs = 0;
  #successes = 0;
  #wasDead = false;
  #revived = false;

  /** A complete answer of the backend. */
  succeeded(): void {
    this.#successes++;
  }

  /** Whether statistics hold it out now. */
  heldOut(nowMs: number): boolean {
    return nowMs < this.#ejectedUntilMs;
  }

  /** Takes the evidence; returns whether anything published changed. `onEjected` is called when statistics eject. */
  update(evidence: Evidence, nowMs: number, times: EjectionTimes, random: Random, onEjected: () => void): boolean {
    this.#follow(evidence);
    if (evidence.finding.kind === "eject" && evidence.mayEject && !this.heldOut(nowMs)) {
      this.#ejections++;
      const openMs = Math.min(times.maxOpenMs, times.openMs * 2 ** Math.min(16, this.#ejections - 1));
      this.#ejectedUntilMs = nowMs + openMs * (1 - JITTER * random.next());
      onEjected();
      return this.#become({ state: HealthState.EJECTED, breaker: this.breaker, reason: evidence.finding.reason }, nowMs);
    }
    return this.#become(this.#verdict(evidence, nowMs), nowMs);
  }

  /** Notes when the liveness call comes back while the breakers are open. */
  #follow({ agreed, live }: Evidence): void {
    if (!agreed) this.#revived = false;
    else if (live === true && this.#wasDead) this.#revived = true;
    if (live === false) {
      this.#wasDead = true;
      this.#revived = false;
    } else if (live === true) this.#wasDead = false;
  }

  #verdict({ agreed, votes, live, finding, panic }: Evidence, nowMs: number): Verdict {
    if (agreed) {
      if (this.#revived) return { state: HealthState.PROBING, breaker: BreakerState.HALF_OPEN, reason: "answers its liveness call again" };
      const dead = live === false ? ", and its liveness call fails" : "";
      return {
        state: HealthState.EJECTED,
        breaker: BreakerState.OPEN,
        reason: `breaker open at ${votes.open} of ${votes.engines} engines${dead}`,
      };
    }
    if (this.heldOut(nowMs) && !panic) return { state: HealthState.EJECTED, breaker: BreakerState.CLOSED, reason: this.reason };
    if (this.#isBeingTried(nowMs)) return { state: HealthState.PROBING, breaker: BreakerState.HALF_OPEN, reason: "being tried again" };
    if (nowMs - this.changedAtMs > FORGIVE_MS) this.#ejections = 0;
    if (live === false) return { state: HealthState.DEGRADED, breaker: BreakerState.CLOSED, reason: "its liveness call fails" };
    if (finding.kind !== "fine") return { state: HealthState.DEGRADED, breaker: BreakerState.CLOSED, reason: finding.reason };
    if (votes.open > 0) {
      const reason = `breaker open at ${votes.open} of ${votes.engines} engines, which is not agreed`;
      return { state: HealthState.HEALTHY, breaker: BreakerState.CLOSED, reason };
    }
    return { state: HealthState.HEALTHY, breaker: BreakerState.CLOSED, reason: "" };
  }

  #isBeingTried(nowMs: number): boolean {
    if (this.state === HealthState.EJECTED) return true;
    if (this.state !== HealthState.PROBING) return false;
    return this.#successes < PROVEN_SUCCESSES && nowMs - this.changedAtMs < PROVEN_BY_TIME_MS;
  }

  #become({ state, breaker, reason }: Verdict, nowMs: number): boolean {
    if (state === this.state && breaker === this.breaker && reason === this.reason) return false;
    if (state !== this.state) {
      // the first verdict of a new backend is no change
      if (this.state !== HealthState.UNSPECIFIED) this.changes++;
      this.changedAtMs = nowMs;
      this.#successes = 0;
    }
    this.state = state;
    this.breaker = breaker;
    this.reason = reason;
    return true;
  }
}
