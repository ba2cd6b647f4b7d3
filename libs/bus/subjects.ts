/** Every subject there is: signalbox.<noun>.<action>.v1[.<token>]. The payloads are the messages of proto/signalbox/events. */
export const SUBJECTS = {
  /** AttemptsCompleted, from adapters. */
  attemptCompleted: "signalbox.attempt.completed.v1",
  /** AdapterAnnounced, from adapter replicas, every second. */
  adapterAnnounced: "signalbox.adapter.announced.v1",
  /** EntriesRecorded, durable, from outboxes. */
  entryRecorded: "signalbox.entry.recorded.v1",
  /** EntriesCommitted; one token: the outbox id. */
  entryCommitted: "signalbox.entry.committed.v1",
  /** ControlState, whole. */
  controlChanged: "signalbox.control.changed.v1",
  /** ControlApplied, from replicas that took a control state over. */
  controlApplied: "signalbox.control.applied.v1",
  /** HealthSnapshot, 4 a second while something changes, else every second. */
  healthPublished: "signalbox.health.published.v1",
  /** PriceBook, whole. */
  pricePublished: "signalbox.price.published.v1",
  /** LoadPublished; one token: the engine id. */
  loadPublished: "signalbox.load.published.v1",
  /** ScoresRecorded, from the ledger, once they are stored. */
  scoreRecorded: "signalbox.score.recorded.v1",
  /** IdempotencyEnded; one token: the key's digest. */
  idempotencyEnded: "signalbox.idempotency.ended.v1",
  /** BudgetCrossed, once per window and threshold. */
  budgetCrossed: "signalbox.budget.crossed.v1",
} as const;

/** Appends a token, encoded to `[A-Za-z0-9_-]`. */
export function subjectOf(base: string, token: string): string {
  return `${base}.${token.replace(/[^A-Za-z0-9_-]/g, (character) => `_${character.codePointAt(0)!.toString(16)}_`)}`;
}
