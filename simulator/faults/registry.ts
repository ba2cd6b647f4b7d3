import type { Clock, Random } from "#libs/clock/index.ts";
import type { FaultKind, FaultOptions } from "./kinds.ts";
import { parseFaultHeader } from "./parse.ts";
import { type FaultPlan, NO_FAULTS, planOf, type Strike } from "./plan.ts";

interface ActiveFault extends Strike {
  readonly startedMs: number;
  left: number;
}

/** Faults at work on one backend at once; more is a mistake of a script. */
const FAULTS_MAX = 64;

/** Kinds that strike whatever is asked; the others strike inference only, unless told `everywhere`. */
const EVERYWHERE: ReadonlySet<FaultKind> = new Set(["reset", "blackhole", "garbage", "loading", "slow"]);

/** The faults of one backend. */
export class FaultRegistry {
  readonly #clock: Clock;
  readonly #random: Random;
  #faults: ActiveFault[] = [];

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  /** Adds a fault; one of the same kind is replaced. Throws a RangeError beyond the bound. */
  add(kind: FaultKind, options: FaultOptions): void {
    this.#faults = this.#faults.filter((fault) => fault.kind !== kind);
    if (this.#faults.length >= FAULTS_MAX) throw new RangeError(`more than ${FAULTS_MAX} faults on one backend`);
    this.#faults.push({ kind, options, startedMs: this.#clock.monotonicMs(), left: options.count ?? Infinity });
  }

  clear(): void {
    this.#faults = [];
  }

  /** Whether a fault acts now, its probability and count left aside. */
  isActive(kind: FaultKind): FaultOptions | undefined {
    const nowMs = this.#clock.monotonicMs();
    return this.#faults.find((fault) => fault.kind === kind && fault.left > 0 && actsAt(fault, nowMs))?.options;
  }

  /** Whether a fault of this kind is registered and not over, flapping left aside. */
  isPending(kind: FaultKind): boolean {
    const nowMs = this.#clock.monotonicMs();
    return this.#faults.some((fault) => fault.kind === kind && !isOver(fault, nowMs));
  }

  /** What strikes one request. `header` is its `x-sim-fault`; `inference` is false for health, models and metrics. */
  strike(header: string | undefined, inference: boolean): FaultPlan {
    if (this.#faults.length === 0 && header === undefined) return NO_FAULTS;
    const nowMs = this.#clock.monotonicMs();
    const strikes: Strike[] = [];
    for (const fault of this.#faults) {
      if (fault.left <= 0 || !actsAt(fault, nowMs)) continue;
      if (!inference && !EVERYWHERE.has(fault.kind) && fault.options.everywhere !== true) continue;
      if (fault.options.p !== undefined && this.#random.next() >= fault.options.p) continue;
      fault.left--;
      strikes.push(fault);
    }
    this.#faults = this.#faults.filter((fault) => !isOver(fault, nowMs));
    const ordered = header === undefined ? undefined : parseFaultHeader(header);
    if (ordered) strikes.unshift(ordered);
    return planOf(strikes);
  }

  /** What is registered, for the control listener. */
  list(): readonly Strike[] {
    const nowMs = this.#clock.monotonicMs();
    return this.#faults.filter((fault) => !isOver(fault, nowMs)).map(({ kind, options }) => ({ kind, options }));
  }
}

function isOver(fault: ActiveFault, nowMs: number): boolean {
  return fault.left <= 0 || nowMs - fault.startedMs >= (fault.options.forMs ?? Infinity);
}

function actsAt(fault: ActiveFault, nowMs: number): boolean {
  if (isOver(fault, nowMs)) return false;
  const { upMs, downMs } = fault.options;
  if (upMs === undefined && downMs === undefined) return true;
  const down = downMs ?? 5000;
  return (nowMs - fault.startedMs) % (down + (upMs ?? 5000)) < down;
}
