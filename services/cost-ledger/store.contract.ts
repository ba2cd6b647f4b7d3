import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { UsageSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { AttemptRecordSchema, RecordKind, type AttemptRecord, type Entry } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { SeededRandom } from "#libs/clock/fake.ts";
import type { CostRow, EntryFilter } from "#libs/peers/index.ts";
import { chainHash, type PricedRecord } from "./entries/index.ts";
import type { LedgerStore } from "./store.ts";
import { verifyLedger } from "./verify.ts";

/** Gives a test an empty store, started; it is stopped by the suite. Undefined = this machine cannot. */
export type OpenStore = (t: TestContext) => Promise<LedgerStore>;

const NOVEMBER_US = BigInt(Date.UTC(2026, 10, 1)) * 1000n;
const HOUR_US = 3_600_000_000n;

/** A posted record, with what a test cares about put in place. */
export function posted(attemptId: string, parts: Partial<AttemptRecord> = {}, baselineNanoUsd = 0n): PricedRecord {
  const record = create(AttemptRecordSchema, {
    kind: RecordKind.POST,
    attemptId,
    requestId: `req-${attemptId}`,
    attempt: 1,
    tenant: "acme",
    model: "chat",
    backend: "gpu-a",
    provider: "vllm",
    startedAtUs: NOVEMBER_US,
    outcome: Outcome.OK,
    usage: { inputTokens: 10, cacheReadTokens: 5, outputTokens: 3 },
    costNanoUsd: 100n,
    purpose: "billed",
  });
  return { record: Object.assign(record, parts), baselineNanoUsd };
}

async function everything(store: LedgerStore, filter: EntryFilter = {}): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (;;) {
    const batch = await store.exportEntries(filter, entries.at(-1)?.sequence ?? 0n);
    if (batch.length === 0) return entries;
    entries.push(...batch);
  }
}

function groupsOf(rows: readonly CostRow[]): string[] {
  return rows.map((row) => row.group[0]!).toSorted((a, b) => a.localeCompare(b));
}

/** What every store promises. */
export function storeContract(name: string, open: OpenStore, skip: string | false): void {
  const check = (title: string, body: (store: LedgerStore) => Promise<void>): void => {
    test(`${name}: ${title}`, { skip }, async (t) => {
      const store = await open(t);
      t.after(() => store.stop());
      await body(store);
    });
  };

  check("an entry comes back exactly as it was booked", async (store) => {
    const full = posted("a1", {
      tags: { user: 'ü "1"', empty: "" },
      costNanoUsd: 9_007_199_254_740_993n,
      durationMs: 1.25,
      team: "search",
    });
    await store.book([full], 5_000);
    const [entry] = await everything(store);
    assert.deepEqual(entry!.record, full.record);
    assert.deepEqual([entry!.sequence, entry!.bookedAtMs, entry!.reverses], [1n, 5_000, ""]);
  });

  check(
    "an entry that stops the ledger: what a database does not take is replaced in the columns and kept in the record",
    async (store) => {
      const odd = posted("odd", {
        tenant: "a\0b",
        responseId: "r\0",
        upstreamModel: "\0",
        tags: { "na\0me": "va\0lue", slash: "\\u0000", quote: '"' },
        durationMs: Number.NaN,
        ttftMs: Number.POSITIVE_INFINITY,
        team: "\u{1f9ea} ünïcode ".repeat(40),
        costNanoUsd: -9_007_199_254_740_993n,
        startedAtUs: -1n,
        usage: create(UsageSchema, { inputTokens: 4_294_967_295, outputTokens: 4_294_967_295, reasoningTokens: 2_147_483_648 }),
      });
      await store.book([odd, posted("next")], 1);
      const entries = await everything(store);
      assert.deepEqual(
        entries.map(({ record }) => record!.attemptId),
        ["odd", "next"],
      );
      assert.equal(entries[0]!.record!.tenant, "a\0b");
      assert.deepEqual(groupsOf(await store.costs({ by: ["tenant"] })), ["acme", "a\ufffdb"]);
      assert.deepEqual(groupsOf(await store.costs({ by: ["tag:slash"] })), ["", "\\u0000"]);
      const report = await verifyLedger(store);
      assert.deepEqual(report.problems, []);
    },
  );

  check("fields of a newer ingress stay in the record that is booked", async (store) => {
    const { record } = posted("a1");
    const encoded = Buffer.concat([toBinary(AttemptRecordSchema, record), Buffer.from([0xa2, 0x06, 0x02, 0x68, 0x69])]);
    await store.book([{ record, encoded, baselineNanoUsd: 0n }], 1);
    const [row] = await store.chain(0n, 1);
    assert.deepEqual(Buffer.from(row!.record), encoded);
    assert.deepEqual((await verifyLedger(store)).problems, []);
  });

  check("an attempt is booked once, however often and in whatever order it is delivered", async (store) => {
    const random = new SeededRandom(3);
    const deliveries: PricedRecord[] = [];
    for (let number = 0; number < 200; number++) {
      const times = 1 + random.int(5);
      for (let time = 0; time < times; time++) deliveries.push(posted(`a${number}`, { costNanoUsd: BigInt(number) }));
    }
    for (let at = deliveries.length - 1; at > 0; at--) {
      const other = random.int(at + 1);
      [deliveries[at], deliveries[other]] = [deliveries[other]!, deliveries[at]!];
    }
    let duplicates = 0;
    for (let at = 0; at < deliveries.length; at += 37) duplicates += (await store.book(deliveries.slice(at, at + 37), 1)).duplicates;
    const totals = await store.totals();
    assert.deepEqual([totals.entries, totals.costNanoUsd], [200n, 19_900n]);
    assert.equal(duplicates, deliveries.length - 200);
    assert.equal(totals.duplicates, BigInt(duplicates));
  });

  check("a real outcome replaces an estimate by a reversing entry, once", async (store) => {
    const estimate = posted("a1", { kind: RecordKind.EXPIRE, outcome: Outcome.UNSPECIFIED, costNanoUsd: 500n, estimated: true }, 50n);
    await store.book([estimate], 1);
    await store.book([posted("a1", { costNanoUsd: 120n }, 70n)], 2);
    await store.book([posted("a1", { costNanoUsd: 120n }, 70n), estimate], 3);
    const entries = await everything(store);
    assert.deepEqual(
      entries.map((entry) => [entry.record!.costNanoUsd, entry.reverses]),
      [
        [500n, ""],
        [-500n, "a1"],
        [120n, ""],
      ],
    );
    const [row] = await store.costs({ by: [] });
    assert.deepEqual([row!.costNanoUsd, row!.requests, row!.attempts, row!.inputTokens, row!.baselineNanoUsd], [120n, 1n, 1n, 15n, 70n]);
  });

  check("an estimate after the real outcome is refused, also within one batch", async (store) => {
    const estimate = posted("a1", { kind: RecordKind.EXPIRE, costNanoUsd: 500n });
    await store.book([estimate, posted("a1")], 1);
    await store.book([estimate], 2);
    assert.deepEqual(
      (await everything(store)).map((entry) => entry.record!.kind),
      [RecordKind.POST],
    );
  });

  check("intents and voids book nothing", async (store) => {
    const booked = await store.book([posted("a1", { kind: RecordKind.INTENT }), posted("a2", { kind: RecordKind.VOID })], 1);
    assert.deepEqual([booked.entries, (await store.totals()).entries], [0, 0n]);
  });

  check("sums by tenant, team, backend and tag all give the total", async (store) => {
    const random = new SeededRandom(9);
    const records = Array.from({ length: 300 }, (_, number) =>
      posted(`a${number}`, {
        tenant: `t${random.int(3)}`,
        team: ["", "x", "y"][random.int(3)]!,
        backend: `b${random.int(4)}`,
        tags: random.next() < 0.5 ? { "user.id": `u${random.int(3)}` } : {},
        startedAtUs: NOVEMBER_US + BigInt(random.int(50)) * HOUR_US,
        costNanoUsd: BigInt(random.int(1_000_000)),
        attempt: 1 + random.int(2),
        purpose: random.next() < 0.2 ? "waste_retry" : "billed",
      }),
    );
    await store.book(records, 1);
    const total = records.reduce((sum, { record }) => sum + record.costNanoUsd, 0n);
    for (const by of [[], ["tenant"], ["team"], ["backend"], ["tag:user.id"], ["day"], ["hour", "tenant"]]) {
      const rows = await store.costs({ by });
      assert.equal(
        rows.reduce((sum, row) => sum + row.costNanoUsd, 0n),
        total,
        by.join(),
      );
      assert.equal(
        rows.reduce((sum, row) => sum + row.attempts, 0n),
        300n,
        by.join(),
      );
      for (let at = 1; at < rows.length; at++) assert.ok(rows[at - 1]!.costNanoUsd >= rows[at]!.costNanoUsd, "dearest first");
    }
    const waste = records.filter(({ record }) => record.purpose !== "billed").reduce((sum, { record }) => sum + record.costNanoUsd, 0n);
    assert.equal((await store.costs({ by: [] }))[0]!.wasteNanoUsd, waste);
    const days = await store.costs({ by: ["day"] });
    assert.deepEqual(groupsOf(days), ["2026-11-01", "2026-11-02", "2026-11-03"]);
    const tagged = await store.costs({ by: ["tag:user.id"] });
    assert.deepEqual(groupsOf(tagged), ["", "u0", "u1", "u2"]);
    assert.equal((await store.costs({ by: ["backend"], limit: 2 })).length, 2);
  });

  check(
    "sums of any period agree with its entries: roll-ups for whole hours, entries for the rest, late and corrected ones included",
    async (store) => {
      const random = new SeededRandom(11);
      const records = Array.from({ length: 200 }, (_, number) =>
        posted(`a${number}`, {
          kind: number % 5 === 0 ? RecordKind.EXPIRE : RecordKind.POST,
          tenant: `t${random.int(2)}`,
          startedAtUs: NOVEMBER_US + BigInt(random.int(5 * 3_600)) * 1_000_000n,
          costNanoUsd: BigInt(random.int(1_000)),
        }),
      );
      for (const record of records.toSorted(() => random.next() - 0.5)) await store.book([record], 1);
      const real = records.filter(({ record }) => record.kind === RecordKind.EXPIRE).slice(0, 20);
      await store.book(
        real.map(({ record }) => posted(record.attemptId, { ...record, kind: RecordKind.POST, costNanoUsd: 7n })),
        2,
      );
      const entries = await everything(store);
      const fromMs = Number(NOVEMBER_US / 1000n);
      for (let round = 0; round < 30; round++) {
        const sinceMs = round === 0 ? undefined : fromMs + random.int(5 * 3_600_000);
        const untilMs = round === 1 ? undefined : (sinceMs ?? fromMs) + random.int(3 * 3_600_000);
        const inside = entries.filter(({ record }) => {
          const atMs = Number(record!.startedAtUs) / 1000;
          return atMs >= (sinceMs ?? 0) && atMs < (untilMs ?? Number.POSITIVE_INFINITY);
        });
        const rows = await store.costs({
          by: ["tenant"],
          ...(sinceMs === undefined ? {} : { sinceMs }),
          ...(untilMs === undefined ? {} : { untilMs }),
        });
        const sum = (values: Iterable<bigint>): bigint => [...values].reduce((total, value) => total + value, 0n);
        assert.equal(sum(rows.map((row) => row.costNanoUsd)), sum(inside.map(({ record }) => record!.costNanoUsd)), `round ${round}`);
        assert.equal(
          sum(rows.map((row) => row.attempts)),
          sum(inside.map(({ reverses }) => (reverses === "" ? 1n : -1n))),
          `round ${round}`,
        );
      }
    },
  );

  check("idle entries are cost but no requests, and are summed apart", async (store) => {
    await store.book([posted("a1"), posted("idle:gpu-a:1:0", { attempt: 0, purpose: "idle", costNanoUsd: 900n, tenant: "system" })], 1);
    const [row] = await store.costs({ by: [] });
    assert.deepEqual([row!.requests, row!.attempts, row!.costNanoUsd, row!.idleNanoUsd], [1n, 1n, 1_000n, 900n]);
    const hour = Number(NOVEMBER_US / HOUR_US);
    assert.deepEqual(await store.hourSums(hour, hour + 1), [{ backend: "gpu-a", hour, costNanoUsd: 1_000n, idleEntries: 1n }]);
    assert.deepEqual(await store.hourSums(hour + 1, hour + 2), []);
  });

  check("a backend's rent begins when it was first known", async (store) => {
    assert.deepEqual([...(await store.rentedSince(["a"], 5))], [["a", 5]]);
    const since = await store.rentedSince(["a", "b"], 9);
    assert.deepEqual([since.get("a"), since.get("b")], [5, 9]);
  });

  check("budget states are replaced together or not at all", async (store) => {
    const row = (key: string, revision: bigint, state: string): { key: string; revision: bigint; state: string } => ({
      key,
      revision,
      state,
    });
    assert.equal(await store.saveBudgets([row("a", 0n, "1"), row("b", 0n, "1")]), true);
    assert.equal(await store.saveBudgets([row("a", 0n, "2")]), false);
    assert.equal(await store.saveBudgets([row("b", 1n, "2"), row("a", 7n, "2")]), false);
    assert.equal(await store.saveBudgets([row("b", 1n, "3")]), true);
    const rows = await store.loadBudgets(["a", "b", "c"]);
    assert.deepEqual(
      rows.map(({ key, revision, state }) => [key, revision, state]).toSorted(([a], [b]) => (a! < b! ? -1 : 1)),
      [
        ["a", 1n, "1"],
        ["b", 2n, "3"],
      ],
    );
  });

  check("an unknown dimension is refused and a name cannot become SQL", async (store) => {
    await assert.rejects(store.costs({ by: ["cost; DROP TABLE entries"] }), { reason: "REQUEST_MALFORMED" });
    await store.book([posted("a1", { tags: { "x\"'); --": "v" } })], 1);
    assert.equal((await store.costs({ by: ["tag:x') --"] }))[0]!.group[0], "");
  });

  check("an export filters by time and tenant and goes on where it stopped", async (store) => {
    await store.book(
      Array.from({ length: 2_500 }, (_, number) =>
        posted(`a${number}`, { tenant: number % 2 ? "odd" : "even", startedAtUs: NOVEMBER_US + BigInt(number) * 1000n }),
      ),
      1,
    );
    assert.equal((await store.exportEntries({}, 0n)).length, 1_000);
    assert.equal((await everything(store)).length, 2_500);
    const from = Number(NOVEMBER_US / 1000n) + 100;
    const odd = await everything(store, { sinceMs: from, untilMs: from + 100, tenant: "odd" });
    assert.equal(odd.length, 50);
    assert.ok(odd.every((entry) => entry.record!.tenant === "odd"));
  });

  check("concurrent batches keep the sequence without gaps and the chain whole", async (store) => {
    await Promise.all(
      Array.from({ length: 10 }, (_, batch) =>
        store.book(
          Array.from({ length: 20 }, (_, number) => posted(`a${batch}-${number}`)),
          1,
        ),
      ),
    );
    const rows = await store.chain(0n, 1_000);
    let hash: Uint8Array = new Uint8Array(32);
    for (const [index, row] of rows.entries()) {
      assert.equal(row.sequence, BigInt(index + 1));
      hash = chainHash(hash, row);
      assert.deepEqual(Buffer.from(row.hash), Buffer.from(hash));
      assert.equal(fromBinary(AttemptRecordSchema, row.record).attemptId, row.columns["attempt_id"]);
    }
    assert.equal(rows.length, 200);
  });

  check("control state is replaced only by who saw the last one", async (store) => {
    assert.equal(await store.loadControl(), undefined);
    assert.equal(await store.saveControl(0n, { revision: 1n, state: Buffer.from("one") }), true);
    assert.equal(await store.saveControl(0n, { revision: 1n, state: Buffer.from("other") }), false);
    assert.equal(await store.saveControl(1n, { revision: 2n, state: Buffer.from("two") }), true);
    assert.equal(await store.saveControl(1n, { revision: 2n, state: Buffer.from("late") }), false);
    const stored = await store.loadControl();
    assert.deepEqual([stored!.revision, Buffer.from(stored!.state).toString()], [2n, "two"]);
  });

  check("an answer is found by its tenant and id, the last one of an id, until it is forgotten", async (store) => {
    const inArm = (arm: string): Partial<AttemptRecord> => ({ responseId: "r1", experiment: "x", arm, experimentRevision: 3n });
    await store.book([posted("a1", inArm("b")), posted("a2", inArm("c")), posted("a3", { responseId: "r2", role: "shadow" })], 1_000);
    const answer = { tenant: "acme", responseId: "r1", experiment: "x", arm: "c", revision: 3n, bookedAtMs: 1_000 };
    assert.deepEqual(await store.findAnswer("acme", "r1"), answer);
    assert.equal(await store.findAnswer("other", "r1"), undefined, "another tenant's answer");
    assert.equal(await store.findAnswer("acme", "r2"), undefined, "nobody saw a shadow's answer");
    await store.forgetAnswers(1_000);
    assert.notEqual(await store.findAnswer("acme", "r1"), undefined);
    await store.forgetAnswers(1_001);
    assert.equal(await store.findAnswer("acme", "r1"), undefined);
  });

  check("the last score of a response, metric and source counts", async (store) => {
    const score = (responseId: string, value: number, parts = {}): Parameters<LedgerStore["saveScore"]>[0] => {
      const about = { tenant: "acme", responseId, metric: "quality", source: "feedback", experiment: "x", arm: "b", revision: 2n };
      return { ...about, score: value, comment: "", atMs: 5, ...parts };
    };
    assert.equal(await store.saveScore(score("r1", 0.25)), undefined);
    assert.equal(await store.saveScore(score("r1", 0.75)), 0.25);
    assert.equal(await store.saveScore(score("r2", 0.25)), undefined);
    assert.equal(await store.saveScore(score("r1", 1, { source: "judge" })), undefined);
    assert.equal(await store.saveScore(score("r3", 1, { experiment: "" })), undefined);
    assert.equal(await store.saveScore(score("r4", 1, { experiment: "y" })), undefined);
    const sums = (await store.scoreSums("x")).map(({ source, count, sum, sumOfSquares }) => [source, count, sum, sumOfSquares]);
    assert.deepEqual(sums, [
      ["feedback", 2, 1, 0.625],
      ["judge", 1, 1, 1],
    ]);
    assert.equal((await store.scoreSums("")).length, 3);
  });

  check("what a source saw of an experiment is replaced whole, and forgotten when told", async (store) => {
    const row = (source: string, state: string): Parameters<LedgerStore["saveObservations"]>[0][number] => {
      return { experiment: "x", source, run: "r", atMs: 5, state };
    };
    await store.saveObservations([row("engine-1", "one"), row("engine-2", "two")]);
    await store.saveObservations([row("engine-1", "three")]);
    const states = async (): Promise<string[]> =>
      (await store.loadObservations()).map(({ source, state }) => `${source} ${state}`).toSorted();
    assert.deepEqual(await states(), ["engine-1 three", "engine-2 two"]);
    await store.dropObservations("x", "engine-2");
    assert.deepEqual(await store.loadObservations(), [row("engine-1", "three")]);
  });

  check("a price book stays as it was first kept", async (store) => {
    await store.savePriceBook("v1", Buffer.from("first"), 1);
    await store.savePriceBook("v1", Buffer.from("second"), 2);
    assert.equal(Buffer.from((await store.priceBook("v1"))!).toString(), "first");
    assert.equal(await store.priceBook("v2"), undefined);
  });

  check("which price book was in force when is kept, also when an earlier one comes back", async (store) => {
    const load = (version: string, atMs: number): Promise<void> => store.savePriceBook(version, Buffer.from(version), atMs);
    for (const [version, atMs] of [["p1", 100], ["p1", 200], ["p2", 300], ["p1", 400]] as const) await load(version, atMs); // prettier-ignore
    const versions = async (fromMs: number): Promise<string[]> =>
      (await store.pricePeriods(fromMs)).map(({ sinceMs, version }) => `${sinceMs} ${version}`);
    assert.deepEqual(await versions(350), ["300 p2", "400 p1"]);
    assert.deepEqual(await versions(500), ["400 p1"]);
    assert.deepEqual(await versions(300), ["300 p2", "400 p1"]);
  });
}
