import { type AttemptRecord, RecordKind } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { OutboxCallback, OutboxPort } from "../outbox-port.ts";
import type { Allowance } from "./allowance.ts";

/**
 * The outbox with the budgets beside it: every intent takes its bound from its request's allowance, every settlement puts the
 * rest back. So no attempt leaves without money, whoever starts it.
 */
export class MeteredOutbox implements OutboxPort {
  readonly #outbox: OutboxPort;
  readonly #allowances: ReadonlyMap<string, Allowance>;
  /** The last intent had no money. Its `beforeDispatch` follows in the same turn. */
  #refused = false;

  /** `allowances` by decision id. */
  constructor(outbox: OutboxPort, allowances: ReadonlyMap<string, Allowance>) {
    this.#outbox = outbox;
    this.#allowances = allowances;
  }

  get accepting(): boolean {
    return this.#outbox.accepting;
  }

  append(record: AttemptRecord): unknown {
    const allowance = this.#allowances.size === 0 ? undefined : this.#allowances.get(record.decisionId);
    if (allowance !== undefined) {
      if (record.kind === RecordKind.INTENT) this.#refused = !allowance.begin(record.attemptId, record.reservedNanoUsd);
      else allowance.end(record.attemptId, record.costNanoUsd, tokensOf(record));
    } else this.#refused = false;
    return this.#outbox.append(record);
  }

  beforeDispatch(callback: OutboxCallback): void {
    if (!this.#refused) return this.#outbox.beforeDispatch(callback);
    this.#refused = false;
    callback(new SignalboxError("BUDGET_EXHAUSTED", "The budget does not hold another attempt of this request."));
  }

  beforeAnswer(callback: OutboxCallback): void {
    this.#outbox.beforeAnswer(callback);
  }
}

function tokensOf({ usage }: AttemptRecord): number {
  if (usage === undefined) return 0;
  return usage.inputTokens + usage.cacheReadTokens + usage.cacheWriteTokens + usage.cacheWrite1hTokens + usage.outputTokens;
}
