import { create } from "@bufbuild/protobuf";
import { type BudgetAsk, BudgetAskSchema, type BudgetGrant, LeaseBudgetRequestSchema } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import type { Clock, Timer } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { budgetSpecs, type BudgetSpec, formatUsd, windowAt } from "#libs/money/index.ts";
import type { LedgerPeer } from "#libs/peers/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import { Slice, type Waiter } from "./slice.ts";

/** Reports to the ledger are at most this far apart, ms: the ledger takes a holder for silent after five times as long. */
const REPORT_MS = 1_000;
/** Between asks for money that others may give back, ms; doubles up to the maximum while nothing comes. */
const ASK_AGAIN_MS = 20;
const ASK_AGAIN_MAX_MS = 250;
/** Longest wait for money that other requests have reserved, ms: as long as most answers take. */
const WAIT_MAX_MS = 10_000;
/** Requests that wait here at once, over all budgets. */
const WAITING_MAX = 10_000;
/** A ledger that has not answered for this long cannot lend: requests on hard budgets are refused, ms. */
const AWAY_MS = 2_000;

/** What a holder of budgets needs. */
export interface BudgetHolderDeps {
  readonly config: ConfigSource;
  readonly clock: Clock;
  readonly ledger: Pick<LedgerPeer, "leaseBudget">;
  readonly logger: Logger;
  /** Names this process to the ledger. */
  readonly holder: string;
}

/**
 * This ingress's slices of all budgets. Money is reserved from what is held here; what lacks is asked of the ledger, one call
 * at a time with everything in it. A request waits as long as money that is only reserved may come free, and no longer.
 */
export class BudgetHolder {
  readonly #deps: BudgetHolderDeps;
  readonly #slices = new Map<string, Slice>();
  #specs = new Map<string, readonly BudgetSpec[]>();
  #sequence = 0n;
  #asking = false;
  #askAgain: Timer | undefined;
  #askAgainMs = ASK_AGAIN_MS;
  #answeredMs: number;
  #waiting = 0;
  #timer: Timer | undefined;
  #endConfig = (): void => {};
  /** Ingresses alive, this one included: what rates and concurrency are divided by. */
  holders = 1;

  constructor(deps: BudgetHolderDeps) {
    this.#deps = deps;
    this.#answeredMs = deps.clock.monotonicMs();
    this.#readConfig();
  }

  start(): void {
    this.#endConfig = this.#deps.config.onChange(() => this.#readConfig());
    this.#timer = this.#deps.clock.every(REPORT_MS, () => this.#tick());
    if (this.#isNeeded) this.#ask(false);
  }

  /** Gives everything back and leaves. */
  async stop(): Promise<void> {
    this.#timer?.cancel();
    this.#askAgain?.cancel();
    this.#endConfig();
    if (this.#slices.size === 0) return;
    await this.#send(
      [...this.#slices.values()].map((slice) => askOf(slice, 0n, 0n)),
      true,
    ).catch(() => undefined);
  }

  /** Budgets a tenant has. */
  specsOf(tenant: string): readonly BudgetSpec[] {
    return this.#specs.get(tenant) ?? [];
  }

  /** The slice of a budget's present window. */
  slice(spec: BudgetSpec): Slice {
    const nowMs = this.#deps.clock.now();
    const window = windowAt(spec.period, nowMs);
    const key = `${spec.id}@${window.id}`;
    let slice = this.#slices.get(key);
    if (slice === undefined) this.#slices.set(key, (slice = new Slice(spec, window, nowMs)));
    return slice;
  }

  /** Reserves `bound` on a slice: now, later, or never. `done` is called once, at once where the answer is known. */
  reserve(slice: Slice, bound: bigint, done: (error: SignalboxError | undefined) => void): Waiter | undefined {
    if (slice.spec.mode === "soft") {
      done(slice.isAffordable(1n) ? undefined : exceeded(slice));
      return undefined;
    }
    if (!slice.isAffordable(bound)) {
      done(exceeded(slice));
      return undefined;
    }
    if (slice.waiters.length === 0 && slice.lease.reserve(bound)) {
      slice.used = true;
      done(undefined);
      return undefined;
    }
    if (this.#waiting >= WAITING_MAX) {
      done(new SignalboxError("QUEUE_FULL", "Too many requests wait for their budgets."));
      return undefined;
    }
    this.#waiting++;
    const waiter: Waiter = {
      bound,
      sinceMs: this.#deps.clock.monotonicMs(),
      done: (error) => {
        this.#waiting--;
        done(error);
      },
    };
    slice.waiters.push(waiter);
    this.#ask(false);
    return waiter;
  }

  /** A waiting request went away; `done` is not called. */
  withdraw(slice: Slice, waiter: Waiter): void {
    if (slice.remove(waiter)) this.#waiting--;
  }

  /** Money came free on a slice: who waits for it may go. */
  freed(slice: Slice): void {
    if (slice.waiters.length > 0) this.#serve(slice);
  }

  #readConfig(): void {
    const specs = new Map<string, BudgetSpec[]>();
    for (const spec of budgetSpecs(this.#deps.config.current)) {
      const list = specs.get(spec.tenant);
      if (list) list.push(spec);
      else specs.set(spec.tenant, [spec]);
    }
    this.#specs = specs;
  }

  /** Whether the ledger should know of this ingress: limits are divided by the ingresses it knows. */
  get #isNeeded(): boolean {
    if (this.#specs.size > 0 || this.#slices.size > 0) return true;
    for (const { limits } of this.#deps.config.current.tenants.values()) {
      if (limits.rpm !== undefined || limits.tpm !== undefined || limits.concurrency !== undefined) return true;
    }
    return false;
  }

  #tick(): void {
    const nowMs = this.#deps.clock.monotonicMs();
    for (const slice of this.#slices.values()) {
      for (const waiter of slice.waitingSince(nowMs - WAIT_MAX_MS)) waiter.done(reservedByOthers(slice));
      if (nowMs - this.#answeredMs > AWAY_MS) for (const waiter of slice.waitingSince(nowMs - AWAY_MS)) waiter.done(unavailable());
    }
    if (this.#isNeeded) this.#ask(true);
  }

  /** Hands what came free to who waits; refuses whom nothing can help; asks for the rest. */
  #serve(slice: Slice): void {
    for (let first = slice.waiters[0]; first !== undefined && slice.lease.reserve(first.bound); first = slice.waiters[0]) {
      slice.waiters.shift();
      slice.used = true;
      first.done(undefined);
    }
    for (const waiter of slice.unaffordable()) waiter.done(exceeded(slice));
    if (slice.waiters.length > 0) this.#askLater();
  }

  #askLater(): void {
    if (this.#askAgain !== undefined || this.#asking) return;
    this.#askAgain = this.#deps.clock.after(this.#askAgainMs, () => {
      this.#askAgain = undefined;
      this.#ask(false);
    });
    this.#askAgainMs = Math.min(ASK_AGAIN_MAX_MS, this.#askAgainMs * 2);
  }

  /** Asks for what the waiting need; `all` reports the other slices too, and gives back what nobody used since. */
  #ask(all: boolean): void {
    if (this.#asking) return;
    const asks: BudgetAsk[] = [];
    const asked: Slice[] = [];
    for (const slice of this.#slices.values()) {
      const first = slice.waiters[0];
      if (first !== undefined) {
        // What is held and does not help goes back, so that two who hold half each do not wait for each other.
        slice.lease.giveBack();
        asks.push(askOf(slice, slice.wanted(), first.bound));
      } else if (all || slice.recalled) {
        if (slice.recalled || !slice.used) slice.lease.giveBack();
        slice.used = false;
        asks.push(askOf(slice, 0n, 0n));
      } else continue;
      slice.recalled = false;
      asked.push(slice);
    }
    if (asks.length === 0 && !all) return;
    this.#asking = true;
    this.#send(asks, false).then(
      (grants) => this.#answered(asked, asks, grants),
      (error: unknown) => {
        this.#asking = false;
        this.#deps.logger.debug({ error: String(error) }, "the ledger lends nothing now");
        if (asked.some(({ waiters }) => waiters.length > 0)) this.#askLater();
      },
    );
  }

  async #send(asks: readonly BudgetAsk[], leaving: boolean): Promise<readonly BudgetGrant[]> {
    const request = create(LeaseBudgetRequestSchema, { holder: this.#deps.holder, sequence: ++this.#sequence, asks: [...asks], leaving });
    const { grants, holders } = await this.#deps.ledger.leaseBudget(request);
    this.holders = Math.max(1, holders);
    return grants;
  }

  #answered(asked: readonly Slice[], asks: readonly BudgetAsk[], grants: readonly BudgetGrant[]): void {
    this.#asking = false;
    this.#answeredMs = this.#deps.clock.monotonicMs();
    const nowMs = this.#deps.clock.now();
    let isNew = false;
    for (const [index, slice] of asked.entries()) {
      const grant = grants[index];
      if (grant === undefined) continue;
      if (grant.granted > 0n) this.#askAgainMs = ASK_AGAIN_MS;
      slice.told(grant, asks[index]!.spentTotal);
      // A window that is over and settled is only history.
      if (slice.isOver(nowMs, asks[index]!.spentTotal)) this.#slices.delete(slice.key);
      this.#serve(slice);
      isNew ||= slice.recalled;
    }
    for (const slice of this.#slices.values()) isNew ||= slice.waiters.length > 0 && slice.left === undefined;
    if (isNew) this.#askLater();
  }
}

function askOf(slice: Slice, want: bigint, need: bigint): BudgetAsk {
  const { lease, spec, window, spentTotal, sinceMs } = slice;
  const held = lease.reserved + lease.free;
  return create(BudgetAskSchema, { budget: spec.id, window: window.id, spentTotal, held, want, need, sinceMs });
}

/** The refusal of a spent budget: names it and says when it begins anew. */
function exceeded(slice: Slice): SignalboxError {
  return new SignalboxError("BUDGET_EXHAUSTED", `${nameOf(slice)} is spent; ${resetOf(slice)}.`);
}

function reservedByOthers(slice: Slice): SignalboxError {
  return new SignalboxError(
    "BUDGET_EXHAUSTED",
    `What is left of ${nameOf(slice)} is reserved by requests that still run; ${resetOf(slice)}.`,
  );
}

function nameOf({ spec }: Slice): string {
  return `The budget '${spec.id}' of ${formatUsd(spec.amountNanoUsd)}`;
}

function resetOf({ window }: Slice): string {
  return Number.isFinite(window.untilMs)
    ? `it resets at ${new Date(window.untilMs).toISOString().replace(".000Z", "Z")}`
    : "it does not reset";
}

function unavailable(): SignalboxError {
  return new SignalboxError("NO_BACKEND", "The budget cannot be checked at the moment.", {
    code: "ledger_unavailable",
    retryAfterMs: 1_000,
  });
}
