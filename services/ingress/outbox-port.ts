import type { AttemptRecord } from "#gen/signalbox/ledger/v1/ledger_pb.ts";

/** Called when the outbox has what was appended before; with an error when the disk refused it. May be called at once. */
export type OutboxCallback = (error?: Error) => void;

/** What the ingress needs of libs/outbox; the real one satisfies it as it is. */
export interface OutboxPort {
  /** Takes a record. Never throws; settlements are taken even when full. */
  append(record: AttemptRecord): unknown;
  /** When what was appended so far allows its bytes to go upstream: durable in `strict`, else written. */
  beforeDispatch(callback: OutboxCallback): void;
  /** When what was appended so far allows an answer to leave: at once in `relaxed`, else durable. */
  beforeAnswer(callback: OutboxCallback): void;
  /** False when nothing new should start. */
  readonly accepting: boolean;
}
