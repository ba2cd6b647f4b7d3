import { type EntryRow, PART } from "../entries/index.ts";
import { withoutNul } from "../postgres-binary.ts";

/** How long an answer can be scored after it was booked, ms. Bounds the table that finds answers by their ids. */
export const ANSWER_KEPT_MS = 30 * 24 * 3_600_000;

/** Whose answer a response id was, and in which experiment. */
export interface AnswerRow {
  readonly tenant: string;
  readonly responseId: string;
  /** Empty = none. */
  readonly experiment: string;
  readonly arm: string;
  readonly revision: bigint;
  readonly bookedAtMs: number;
}

/** A stored score. */
export interface ScoreRow {
  readonly tenant: string;
  readonly responseId: string;
  readonly metric: string;
  readonly source: string;
  /** 0..1. */
  readonly score: number;
  /** Empty = none, or not kept. */
  readonly comment: string;
  readonly atMs: number;
  readonly experiment: string;
  readonly arm: string;
  readonly revision: bigint;
}

/** Scores of one arm, metric and source, as sums of powers: they add up over revisions and sources. */
export interface ScoreSums {
  readonly experiment: string;
  readonly arm: string;
  readonly revision: bigint;
  readonly metric: string;
  readonly source: string;
  readonly count: number;
  readonly sum: number;
  readonly sumOfSquares: number;
}

/** What a score took the place of; undefined = of nothing. */
export type Replaced = number | undefined;

/** Answers among booked rows that a caller can score: its own, each under the id it saw; the last one of an id counts. */
export function answersOf(rows: readonly EntryRow[]): readonly AnswerRow[] {
  const answers = new Map<string, AnswerRow>();
  for (const { decoded, part, bookedAtMs } of rows) {
    const { experiment, arm, experimentRevision: revision } = decoded;
    const [tenant, responseId] = [withoutNul(decoded.tenant), withoutNul(decoded.responseId)];
    if (responseId === "" || decoded.role !== "" || part === PART.reversal) continue;
    answers.set(`${tenant}\u0000${responseId}`, { tenant, responseId, experiment, arm, revision, bookedAtMs: Math.floor(bookedAtMs) });
  }
  return [...answers.values()];
}
