import { create, toBinary } from "@bufbuild/protobuf";
import { BudgetCrossedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import {
  BudgetGrantSchema,
  BudgetStateSchema,
  LeaseBudgetResponseSchema,
  type BudgetGrant,
  type BudgetState,
  type LeaseBudgetRequest,
  type LeaseBudgetResponse,
} from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import type { EventBus } from "#libs/bus/bus.ts";
import { SUBJECTS } from "#libs/bus/subjects.ts";
import type { Clock } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import { budgetSpecs, isCharged, windowAt, type BudgetSpec, type BudgetWindow } from "#libs/money/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import { storeUnavailable, type BudgetRow, type LedgerStore } from "../store.ts";
import { BudgetOwner, HOLDER_SILENT_MS } from "./owner.ts";

/** Attempts to write over another replica's changes. */
const WRITE_ATTEMPTS = 8;
/** Groups summed to find what a tenant, team and key has spent: keys of one installation times teams. */
const GROUPS_MAX = 100_000;

/** What the desk needs. */
export interface BudgetDeskDeps {
  readonly config: ConfigSource;
  readonly store: LedgerStore;
  readonly bus: EventBus;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** After every moment there is: nothing is left out. */
const EVERYTHING_MS = Number.MAX_SAFE_INTEGER;

/** A budget in a window, and since when the earliest of those who ask counts it, ms since the epoch. */
interface Wanted {
  readonly spec: BudgetSpec;
  readonly window: BudgetWindow;
  readonly sinceMs: number;
}

interface Open {
  readonly spec: BudgetSpec;
  readonly window: BudgetWindow;
  readonly owner: BudgetOwner;
  /** Revision in the store; 0 = not there yet. */
  readonly revision: bigint;
}

interface Waiting {
  readonly request: LeaseBudgetRequest;
  readonly resolve: (response: LeaseBudgetResponse) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Where ingresses lease budgets. Calls that arrive together share one write; every state is replaced by compare and swap, so
 * that several ledgers over one store own a budget together and a restart forgets nothing.
 */
export class BudgetDesk {
  readonly #deps: BudgetDeskDeps;
  readonly #seen = new Map<string, number>();
  #queue: Waiting[] = [];
  #working = false;

  constructor(deps: BudgetDeskDeps) {
    this.#deps = deps;
  }

  /** Reports and asks of one ingress. Rejects with `ledger_unavailable` while the store is away. */
  lease(request: LeaseBudgetRequest): Promise<LeaseBudgetResponse> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ request, resolve, reject });
      if (!this.#working) void this.#work();
    });
  }

  /** Every budget with what is spent and held now. */
  async list(tenant: string | undefined): Promise<readonly BudgetState[]> {
    const { config, clock } = this.#deps;
    const nowMs = clock.now();
    const specs = budgetSpecs(config.current).filter((spec) => tenant === undefined || tenant === "" || spec.tenant === tenant);
    const open = await this.#open(specs.map((spec) => ({ spec, window: windowAt(spec.period, nowMs), sinceMs: EVERYTHING_MS })));
    return open.map(({ spec, window, owner }) =>
      create(BudgetStateSchema, {
        budget: spec.id,
        tenant: spec.tenant,
        team: spec.team ?? "",
        keyId: spec.key ?? "",
        period: spec.period,
        mode: spec.mode,
        amountNanoUsd: spec.amountNanoUsd,
        spentNanoUsd: owner.spent,
        leasedNanoUsd: owner.held,
        window: window.id,
        resetsAtMs: endOf(window),
      }),
    );
  }

  async #work(): Promise<void> {
    this.#working = true;
    while (this.#queue.length > 0) {
      const batch = this.#queue;
      this.#queue = [];
      try {
        const responses = await this.#serve(batch.map(({ request }) => request));
        for (const [index, { resolve }] of batch.entries()) resolve(responses[index]!);
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#working = false;
  }

  async #serve(requests: readonly LeaseBudgetRequest[]): Promise<readonly LeaseBudgetResponse[]> {
    const nowMs = this.#deps.clock.now();
    for (const { holder, leaving } of requests) {
      this.#seen.delete(holder);
      if (!leaving) this.#seen.set(holder, nowMs);
    }
    for (const [holder, atMs] of this.#seen) if (nowMs - atMs >= HOLDER_SILENT_MS) this.#seen.delete(holder);
    const specs = new Map(budgetSpecs(this.#deps.config.current).map((spec) => [spec.id, spec]));
    const wanted = new Map<string, Wanted>();
    for (const { budget, window, sinceMs } of requests.flatMap(({ asks }) => asks)) {
      const spec = specs.get(budget);
      if (spec === undefined) continue;
      const key = keyOf(budget, window);
      const earliest = Math.min(wanted.get(key)?.sinceMs ?? EVERYTHING_MS, sinceMs || EVERYTHING_MS);
      wanted.set(key, { spec, window: windowNamed(spec, window, nowMs), sinceMs: earliest });
    }
    if (wanted.size === 0) return requests.map((request) => this.#answer(request, new Map(), nowMs));
    for (let attempt = 1; attempt <= WRITE_ATTEMPTS; attempt++) {
      const open = new Map((await this.#open([...wanted.values()])).map((each) => [keyOf(each.spec.id, each.window.id), each]));
      await this.#forgetDead([...open.values()], nowMs);
      const responses = requests.map((request) => this.#answer(request, open, nowMs));
      const crossed = [...open.values()].map((each) => ({
        each,
        shares: each.owner.newlyCrossed(each.spec.alert, each.spec.amountNanoUsd),
      }));
      const rows = [...open].map(([key, { owner, revision }]) => ({ key, revision, state: owner.encode() }));
      if (!(await this.#deps.store.saveBudgets(rows))) continue;
      for (const { each, shares } of crossed) for (const share of shares) this.#alert(each, share);
      return responses;
    }
    throw storeUnavailable(new Error("budgets change too fast"));
  }

  #answer(request: LeaseBudgetRequest, open: ReadonlyMap<string, Open>, nowMs: number): LeaseBudgetResponse {
    const grants: BudgetGrant[] = request.asks.map((ask) => {
      const found = open.get(keyOf(ask.budget, ask.window));
      if (found === undefined) return create(BudgetGrantSchema, { budget: ask.budget, window: ask.window });
      const { owner, spec, window } = found;
      const granted = owner.ask({ ...ask, holder: request.holder, sequence: request.sequence }, spec.amountNanoUsd, nowMs);
      if (request.leaving) owner.leave(request.holder);
      return create(BudgetGrantSchema, { budget: ask.budget, window: ask.window, known: true, resetsAtMs: endOf(window), ...granted });
    });
    return create(LeaseBudgetResponseSchema, { grants, holders: Math.max(1, this.#seen.size) });
  }

  /**
   * Reads the states. A budget seen for the first time begins with what is booked in its window of attempts from before its holders
   * began to count; one that began earlier than those known moves that moment, so that nothing counts twice.
   */
  async #open(wanted: readonly Wanted[]): Promise<readonly Open[]> {
    const rows = new Map<string, BudgetRow>();
    for (const row of await this.#deps.store.loadBudgets(wanted.map(({ spec, window }) => keyOf(spec.id, window.id))))
      rows.set(row.key, row);
    const open: Open[] = [];
    for (const { spec, window, sinceMs } of wanted) {
      const row = rows.get(keyOf(spec.id, window.id));
      const owner = row ? BudgetOwner.decode(row.state) : new BudgetOwner(await this.#booked(spec, window, sinceMs), sinceMs);
      if (sinceMs < owner.baseUntilMs) owner.rebase(await this.#booked(spec, window, sinceMs), sinceMs);
      open.push({ spec, window, owner, revision: row?.revision ?? 0n });
    }
    return open;
  }

  async #forgetDead(open: readonly Open[], nowMs: number): Promise<void> {
    for (const { spec, window, owner } of open) if (owner.hasDead(nowMs)) owner.forget(await this.#booked(spec, window), nowMs);
  }

  /** What is booked in a window of attempts that began before `beforeMs`. */
  async #booked(spec: BudgetSpec, window: BudgetWindow, beforeMs = EVERYTHING_MS): Promise<bigint> {
    const untilMs = Math.min(window.untilMs, beforeMs);
    if (untilMs <= window.fromMs) return 0n;
    const rows = await this.#deps.store.costs({
      by: ["tenant", "team", "key_id"],
      limit: GROUPS_MAX,
      ...(Number.isFinite(window.fromMs) ? { sinceMs: window.fromMs } : {}),
      ...(untilMs < EVERYTHING_MS ? { untilMs } : {}),
    });
    let sum = 0n;
    for (const { group, costNanoUsd } of rows) if (isCharged(spec, group[0]!, group[1]!, group[2]!)) sum += costNanoUsd;
    return sum;
  }

  #alert({ spec, window, owner }: Open, threshold: number): void {
    const event = create(BudgetCrossedSchema, {
      budget: spec.id,
      tenant: spec.tenant,
      team: spec.team ?? "",
      keyId: spec.key ?? "",
      window: window.id,
      threshold,
      spentNanoUsd: owner.spent,
      amountNanoUsd: spec.amountNanoUsd,
    });
    this.#deps.bus.publish(SUBJECTS.budgetCrossed, toBinary(BudgetCrossedSchema, event));
    this.#deps.logger.warn({ budget: spec.id, window: window.id, threshold }, "a budget reached an alert threshold");
  }
}

function keyOf(budget: string, window: string): string {
  return `${budget}@${window}`;
}

function endOf(window: BudgetWindow): number {
  return Number.isFinite(window.untilMs) ? window.untilMs : 0;
}

/** The window of this name: the current one, or an earlier one whose last requests are being settled. */
function windowNamed(spec: BudgetSpec, id: string, nowMs: number): BudgetWindow {
  const current = windowAt(spec.period, nowMs);
  if (current.id === id || spec.period === "total") return current;
  const startMs = Date.parse(spec.period === "month" ? `${id}-01T00:00:00Z` : `${id}T00:00:00Z`);
  return Number.isNaN(startMs) ? current : windowAt(spec.period, startMs);
}
