import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { create } from "@bufbuild/protobuf";
import { UsageSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { SeededRandom } from "#libs/clock/fake.ts";
import { defaultBackend, defaultConfig, NO_PRICES } from "#libs/config/index.ts";
import type { Config } from "#libs/config/model.ts";
import { compilePriceBook, costOf, type PriceIndex } from "#libs/money/index.ts";
import { IdleDesk } from "./idle.ts";
import { buildPriceBook } from "./price-book/index.ts";
import type { PricePeriod } from "./price-periods.ts";
import { SqliteDatabase } from "./sqlite-database.ts";
import { posted } from "./store.contract.ts";
import { verifyLedger } from "./verify.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Local nights of every day are cheaper: minutes of the week. */
const NIGHTS = Array.from({ length: 7 }, (_, day) => ({ from: day * 1440, to: day * 1440 + 360 }));

function rentConfig(): Config {
  const engine = (name: string, perHourNano: bigint): ReturnType<typeof defaultBackend> =>
    defaultBackend({ name, provider: "vllm", model: "llama", price: { ...NO_PRICES, perHourNano } });
  const backends = [engine("a100", 1_900_000_001n), engine("l40s", 700_000_000n), engine("idle-gpu", 333_333_333n)];
  const night = {
    ...NO_PRICES,
    backend: "a100",
    perHourNano: 1_100_000_000n,
    effectiveFromMs: 0,
    schedule: "night",
    tiers: [],
    serviceTiers: new Map(),
  };
  const raised = {
    ...NO_PRICES,
    backend: "l40s",
    perHourNano: 800_000_007n,
    effectiveFromMs: Date.UTC(2026, 9, 14, 9, 30),
    schedule: undefined,
    tiers: [],
    serviceTiers: new Map(),
  };
  return defaultConfig({
    backends: new Map(backends.map((backend) => [backend.name, backend])),
    schedules: new Map([["night", { name: "night", tz: "Europe/Berlin", windows: NIGHTS }]]),
    prices: { ...defaultConfig().prices, overrides: [night, raised] },
  });
}

/** Whether it is before six in the morning in Berlin, asked of the calendar and not of our own schedules. */
function isBerlinNight(atMs: number): boolean {
  return Number(BERLIN.format(atMs)) < 6;
}

const BERLIN = new Intl.DateTimeFormat("en-GB", { timeZone: "Europe/Berlin", hour: "2-digit", hourCycle: "h23" });

/** Rent of a month, minute by minute in exact sixtieths, each hour rounded half up. */
function rentDue(backend: string, fromMs: number, untilMs: number): bigint {
  let total = 0n;
  for (let hourMs = fromMs; hourMs < untilMs; hourMs += HOUR_MS) {
    let sixtieths = 0n;
    const isNight = isBerlinNight(hourMs);
    for (let minute = 0; minute < 60; minute++) {
      const atMs = hourMs + minute * 60_000;
      if (backend === "a100") sixtieths += isNight ? 1_100_000_000n : 1_900_000_001n;
      else if (backend === "l40s") sixtieths += atMs >= Date.UTC(2026, 9, 14, 9, 30) ? 800_000_007n : 700_000_000n;
      else sixtieths += 333_333_333n;
    }
    total += (sixtieths + 30n) / 60n;
  }
  return total;
}

async function rentedMonth(t: TestContext, fromMs: number): Promise<{ store: SqliteDatabase; config: Config; index: PriceIndex }> {
  const store = new SqliteDatabase(":memory:");
  await store.start();
  t.after(() => store.stop());
  const config = rentConfig();
  // The machines are known since before the month.
  await store.rentedSince([...config.backends.keys()], fromMs - DAY_MS);
  return { store, config, index: compilePriceBook(buildPriceBook(config, []).book) };
}

/** A history of one book. */
function always(index: PriceIndex): () => Promise<readonly PricePeriod[]> {
  return () => Promise.resolve([{ sinceMs: 0, index }]);
}

const NO_TOKENS = create(UsageSchema);

for (const [title, fromMs, untilMs] of [
  ["a month in which the clocks go back", Date.UTC(2026, 9, 1), Date.UTC(2026, 10, 1)],
  ["a February", Date.UTC(2026, 1, 1), Date.UTC(2026, 2, 1)],
] as const) {
  test(`${title} adds up to its rent exactly: restarts, two ledgers, silent days, late entries and a new price included`, async (t) => {
    const { store, config, index } = await rentedMonth(t, fromMs);
    const random = new SeededRandom(26);
    let ledgers = [new IdleDesk(store), new IdleDesk(store)];
    let attempts = 0;
    const serve = async (backend: string, startedMs: number): Promise<void> => {
      // Now and then more than the hour holds: then its idle part is negative.
      const gpuSeconds = random.next() < 0.02 ? 5_000 : random.next() * 90;
      const { nanoUsd } = costOf(index, backend, NO_TOKENS, startedMs, gpuSeconds);
      const parts = { backend, costNanoUsd: nanoUsd, gpuSeconds, startedAtUs: BigInt(Math.floor(startedMs)) * 1000n };
      await store.book([posted(`a${attempts++}`, parts)], startedMs);
    };
    for (let atMs = fromMs; atMs < untilMs + 2 * HOUR_MS; atMs += HOUR_MS) {
      const day = Math.floor((atMs - fromMs) / DAY_MS);
      const inMonth = atMs < untilMs;
      // Nobody calls on the fifth to the seventh day, and never the third machine.
      if (inMonth && (day < 4 || day > 6)) {
        for (const backend of ["a100", "l40s"]) if (random.next() < 0.7) await serve(backend, atMs + random.int(HOUR_MS));
        if (random.next() < 0.1) await serve("a100", Math.max(fromMs, atMs - random.int(2 * DAY_MS)));
      }
      // The ledger is away from the tenth day for four days.
      if (day >= 9 && day < 13) continue;
      if (day === 13) ledgers = [new IdleDesk(store), new IdleDesk(store)];
      if (random.next() < 0.05) ledgers[random.int(2)] = new IdleDesk(store);
      if (inMonth && random.next() < 0.85) continue;
      await Promise.all(ledgers.map((ledger) => ledger.closeHours(config, always(index), atMs + 400_000)));
    }
    const rows = await store.costs({ by: ["backend"], sinceMs: fromMs, untilMs });
    assert.ok(attempts > 500);
    for (const { group, costNanoUsd } of rows) assert.equal(costNanoUsd, rentDue(group[0]!, fromMs, untilMs), group[0]);
    assert.equal(rows.length, 3);
    assert.deepEqual((await verifyLedger(store)).problems, []);
  });
}

test("a new price does not rewrite hours that were closed long ago", async (t) => {
  const fromMs = Date.UTC(2026, 1, 1);
  const { store, config, index } = await rentedMonth(t, fromMs);
  for (let atMs = fromMs; atMs < fromMs + 10 * DAY_MS; atMs += DAY_MS) await new IdleDesk(store).closeHours(config, always(index), atMs);
  const spent = async (): Promise<bigint> => (await store.costs({ by: [], sinceMs: fromMs, untilMs: fromMs + 5 * DAY_MS }))[0]!.costNanoUsd;
  const before = await spent();
  const dearer = new Map(
    [...config.backends].map(([name, backend]) => [name, { ...backend, price: { ...NO_PRICES, perHourNano: 9_000_000_000n } }]),
  );
  const changed = { ...config, backends: dearer };
  await new IdleDesk(store).closeHours(changed, always(compilePriceBook(buildPriceBook(changed, []).book)), fromMs + 10 * DAY_MS);
  assert.equal(await spent(), before);
});
