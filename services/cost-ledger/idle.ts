import { create } from "@bufbuild/protobuf";
import { AttemptRecordSchema, RecordKind } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Config } from "#libs/config/model.ts";
import { roundHalfUp } from "#libs/money/index.ts";
import type { PricedRecord } from "./entries/index.ts";
import { rentAt, type PricePeriod } from "./price-periods.ts";
import type { HourSum, LedgerStore } from "./store.ts";

/** Who pays for machines nobody used. */
export const IDLE_TENANT = "system";
/** An hour is closed this long after its end, ms: streams that began in it have mostly ended by then. */
export const CLOSE_AFTER_MS = 300_000;
/** Closed hours are looked at again this far back: late and corrected entries move the idle part. */
const REOPENED_HOURS = 72;
/** Hours nobody closed because the ledger was away are closed this far back: this month and the last one. */
const MISSED_HOURS = 62 * 24;
/** Missed hours are looked for this often, ms; the recent ones at every call. */
const MISSED_PERIOD_MS = 3_600_000;

/** Idle entries of one transaction. */
const RECORDS_MAX = 2_000;
const HOUR_MS = 3_600_000;
/** Prices may change by schedule within an hour; windows are whole minutes. */
const MINUTE_MS = 60_000;
const MINUTES_PER_HOUR = 60n;

/** One hour of one rented backend. */
interface RentedHour {
  readonly backend: string;
  /** Hours since the epoch. */
  readonly hour: number;
  /** Rent due, nano-USD. */
  readonly rentNanoUsd: bigint;
}

/**
 * Rent of every closed hour that is due of every backend priced by the hour, `hoursBack` hours back. A backend owes rent
 * from the minute it was first known; minutes are added up exactly and rounded once.
 */
export function rentedHours(
  config: Config,
  periods: readonly PricePeriod[],
  since: ReadonlyMap<string, number>,
  nowMs: number,
  hoursBack = REOPENED_HOURS,
  isDue: (backend: string, hour: number) => boolean = () => true,
): readonly RentedHour[] {
  const lastHour = Math.floor((nowMs - CLOSE_AFTER_MS) / HOUR_MS) - 1;
  const hours: RentedHour[] = [];
  for (const backend of config.backends.keys()) {
    const sinceMs = since.get(backend);
    if (sinceMs === undefined) continue;
    for (let hour = Math.max(Math.floor(sinceMs / HOUR_MS), lastHour - hoursBack + 1); hour <= lastHour; hour++) {
      if (!isDue(backend, hour)) continue;
      let perHour = 0n;
      for (let atMs = hour * HOUR_MS; atMs < (hour + 1) * HOUR_MS; atMs += MINUTE_MS) {
        if (atMs + MINUTE_MS > sinceMs) perHour += rentAt(periods, backend, atMs);
      }
      if (perHour > 0n) hours.push({ backend, hour, rentNanoUsd: roundHalfUp(perHour, MINUTES_PER_HOUR) });
    }
  }
  return hours;
}

/**
 * The idle entries that make each hour's entries add up to its rent, signed: negative where requests were booked above it.
 * An hour that already adds up needs none. The attempt id names backend, hour and how many idle entries there were, so that
 * two ledgers that look at once book one entry, not two.
 */
export function idleRecords(
  rented: readonly RentedHour[],
  sums: readonly HourSum[],
  config: Config,
  priceVersion: string,
): readonly PricedRecord[] {
  const booked = new Map(sums.map(({ backend, hour, costNanoUsd, idleEntries }) => [`${backend}@${hour}`, { costNanoUsd, idleEntries }]));
  return rented.flatMap(({ backend, hour, rentNanoUsd }) => {
    const { costNanoUsd: sum, idleEntries } = booked.get(`${backend}@${hour}`) ?? { costNanoUsd: 0n, idleEntries: 0n };
    if (sum === rentNanoUsd) return [];
    const { provider, model } = config.backends.get(backend)!;
    const record = create(AttemptRecordSchema, {
      kind: RecordKind.POST,
      attemptId: `idle:${backend}:${hour}:${idleEntries}`,
      tenant: IDLE_TENANT,
      backend,
      provider,
      upstreamModel: model,
      priceVersion,
      startedAtUs: BigInt(hour) * BigInt(HOUR_MS) * 1_000n,
      durationMs: HOUR_MS,
      outcome: Outcome.OK,
      costNanoUsd: rentNanoUsd - sum,
      priceGrade: "rate",
      purpose: "idle",
    });
    return [{ record, baselineNanoUsd: 0n }];
  });
}

/** Price books that were in force from a moment on, oldest first. */
type PriceHistory = (fromMs: number) => Promise<readonly PricePeriod[]>;

/** Books the idle part of the closed hours of every rented backend. One for each ledger process; several of them book each part once. */
export class IdleDesk {
  readonly #store: LedgerStore;
  /** When missed hours were last looked for, ms since the epoch. */
  #missedAtMs = Number.NEGATIVE_INFINITY;

  constructor(store: LedgerStore) {
    this.#store = store;
  }

  /** The hours up to the last closed one and those since always; older ones only where no idle part was ever booked. Each at the prices in force in it. */
  async closeHours(config: Config, history: PriceHistory, nowMs: number): Promise<void> {
    const store = this.#store;
    const looksFar = nowMs - this.#missedAtMs >= MISSED_PERIOD_MS;
    const hoursBack = looksFar ? MISSED_HOURS : REOPENED_HOURS;
    const endHour = Math.floor((nowMs - CLOSE_AFTER_MS) / HOUR_MS);
    const periods = await history((endHour - hoursBack) * HOUR_MS);
    const isRented = (backend: string): boolean => periods.some(({ sinceMs }) => rentAt(periods, backend, sinceMs) > 0n);
    const backends = [...config.backends.keys()].filter((name) => rentAt(periods, name, nowMs) > 0n || isRented(name));
    if (backends.length === 0) return;
    const since = await store.rentedSince(backends, nowMs);
    const sums = await store.hourSums(endHour - hoursBack, endHour);
    const idle = sums.filter(({ idleEntries }) => idleEntries > 0n);
    const closed = new Set(idle.map(({ backend, hour }) => `${backend}@${hour}`));
    // What the outboxes kept while the ledger was away belongs to hours as far back from when it went.
    const lastClosed = idle.reduce((last, { hour }) => Math.max(last, hour), endHour - hoursBack);
    const isDue = (backend: string, hour: number): boolean => hour > lastClosed - REOPENED_HOURS || !closed.has(`${backend}@${hour}`);
    const records = idleRecords(rentedHours(config, periods, since, nowMs, hoursBack, isDue), sums, config, periods.at(-1)!.index.version);
    for (let at = 0; at < records.length; at += RECORDS_MAX) await store.book(records.slice(at, at + RECORDS_MAX), nowMs);
    if (looksFar) this.#missedAtMs = nowMs;
  }
}
