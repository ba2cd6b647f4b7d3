import { systemClock } from "#libs/clock/index.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import type { CostQuery, LedgerPeer } from "#libs/peers/index.ts";
import { createPostgresStore } from "#services/cost-ledger/store-postgres.ts";
import { MONTH_FROM_MS, MONTH_UNTIL_MS } from "./traffic.ts";

const HOUR_MS = 3_600_000;
/** Times each query is asked: the first one finds cold caches. */
const ROUNDS = 5;

/** A month's end in the middle of an hour: the roll-ups cannot answer it alone. */
const RAGGED = { sinceMs: MONTH_FROM_MS + 0.4 * HOUR_MS, untilMs: MONTH_UNTIL_MS - 0.3 * HOUR_MS };
const MONTH = { sinceMs: MONTH_FROM_MS, untilMs: MONTH_UNTIL_MS };

const QUERIES: readonly CostQuery[] = [
  { by: ["team", "model"], ...MONTH },
  { by: ["team", "model"], ...RAGGED },
  { by: ["tenant"], ...MONTH },
  { by: ["day", "backend"], ...MONTH },
  { by: ["tenant", "team", "key_id", "model", "backend", "provider"], ...MONTH },
  { by: ["tag:feature"], sinceMs: MONTH_FROM_MS, untilMs: MONTH_FROM_MS + 24 * HOUR_MS },
];

/** Asks the sums that reports ask, and says how long each took: the first time and the middle of the others, ms. */
export async function askCosts(where: string | Pick<LedgerPeer, "costs">, say: (text: string) => void): Promise<void> {
  const store = typeof where === "string" ? createPostgresStore({ url: where, clock: systemClock, logger: silentLogger }) : undefined;
  await store?.start();
  const source = store ?? (where as Pick<LedgerPeer, "costs">);
  for (const query of QUERIES) {
    const times: number[] = [];
    let rows = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const start = performance.now();
      rows = (await source.costs(query)).length;
      times.push(performance.now() - start);
    }
    const rest = times.slice(1).toSorted((a, b) => a - b);
    const days = Math.round((query.untilMs! - query.sinceMs!) / (24 * HOUR_MS));
    say(
      `costs --by ${query.by.join(",")} over ${days} d: first ${times[0]!.toFixed(0)} ms, then ${rest[rest.length >> 1]!.toFixed(0)} ms, ${rows} rows`,
    );
  }
  await store?.stop();
}
