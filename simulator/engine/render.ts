import type { FaultPlan } from "../faults/plan.ts";
import type { SimDialect } from "../profile.ts";
import type { Step } from "./generate.ts";
import type { UsageCounts } from "./usage.ts";

/** What every rendering of an answer needs beside the answer. */
export interface AnswerFrame {
  readonly dialect: SimDialect;
  readonly id: string;
  /** Creation time, s since the epoch. */
  readonly createdS: number;
  readonly model: string;
  /** Final usage: the whole answer is decided before its first token. */
  readonly usage: UsageCounts;
  readonly plan: FaultPlan;
  readonly obfuscates: boolean;
}

/** Writes a stream in a dialect; each call gives whole events. */
export interface StreamRenderer {
  /** What comes before the first token. */
  open(): string;
  step(step: Step): string;
  /** What says that one answer is finished, and why. */
  closeChoice(index: number): string;
  /** What states usage, where that is an event of its own. */
  usage(): string;
  /** What ends the stream. */
  done(): string;
  /** An error in the middle of the stream. */
  error(): string;
}
