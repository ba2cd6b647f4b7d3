/** One step in the history of an experiment or a model. */
interface RevisionStep {
  readonly revision: bigint;
  readonly action: string;
  /** ms since the epoch. */
  readonly atMs: number;
  readonly by: string;
  readonly reason: string;
}

/** What every step of a history says: the revision, what was done, when, by whom and why. */
export function stepJson(step: RevisionStep): Readonly<Record<string, unknown>> {
  return { revision: Number(step.revision), action: step.action, at: new Date(step.atMs).toISOString(), by: step.by, reason: step.reason };
}
