import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "#libs/clock/fake.ts";
import { BudgetLease, BudgetOwner, HOLDER_DEAD_MS, windowAt } from "./index.ts";

const ROUNDS = 100;
const REQUESTS = 500;
const REPLICAS = 3;
const BOUND = 1_000n;

/** 500 requests arrive at once at three replicas with money for exactly 100 of them; each is admitted, waits for a settlement, or is refused at the end. */
function round(seed: number): { readonly spent: bigint; readonly amount: bigint; readonly admitted: number } {
  const random = new SeededRandom(seed);
  const amount = BOUND * 100n;
  const owner = new BudgetOwner(amount, 0n);
  const leases = Array.from({ length: REPLICAS }, () => new BudgetLease());
  const running: { readonly replica: number; readonly cost: bigint }[] = [];
  let admitted = 0;
  let spent = 0n;
  let nowMs = 0;
  const admit = (replica: number): boolean => {
    const lease = leases[replica]!;
    if (!lease.reserve(BOUND)) {
      lease.add(owner.grant(String(replica), lease.missing(BOUND) * BigInt(1 + random.int(4)), nowMs).granted);
      if (!lease.reserve(BOUND)) return false;
    }
    running.push({ replica, cost: BigInt(random.int(Number(BOUND) + 1)) });
    return true;
  };
  let waiting = Array.from({ length: REQUESTS }, () => random.int(REPLICAS));
  for (;;) {
    waiting = waiting.filter((replica) => {
      const ok = admit(replica);
      if (ok) admitted++;
      return !ok;
    });
    if (running.length === 0) break;
    for (let ended = 1 + random.int(20); ended > 0 && running.length > 0; ended--) {
      const [attempt] = running.splice(random.int(running.length), 1);
      leases[attempt!.replica]!.settle(BOUND, attempt!.cost);
      spent += attempt!.cost;
    }
    nowMs += 250;
    for (const [replica, lease] of leases.entries()) {
      const { spent: settled, returned } = lease.report(0n);
      owner.report(String(replica), settled, returned, nowMs);
      assert.ok(owner.spent + owner.outstanding <= amount);
    }
  }
  assert.equal(owner.spent, spent);
  return { spent, amount, admitted };
}

test(`a hard budget is never overspent by ${REQUESTS} concurrent requests at ${REPLICAS} replicas, and is used up (${ROUNDS} rounds)`, () => {
  for (let seed = 1; seed <= ROUNDS; seed++) {
    const { spent, amount, admitted } = round(seed);
    assert.ok(spent <= amount, `seed ${seed}: overspent`);
    assert.ok(spent * 100n >= amount * 95n, `seed ${seed}: ${spent} of ${amount} used by ${admitted} requests`);
  }
});

test("a dead holder's money counts as spent until its records have come", () => {
  const owner = new BudgetOwner(100n, 0n);
  assert.deepEqual(owner.grant("a", 80n, 0), { granted: 80n, recalled: false });
  assert.deepEqual(owner.grant("b", 50n, 0), { granted: 20n, recalled: true });
  assert.equal(owner.report("a", 0n, 0n, 1_000), true, "it is asked to give back what it does not use");
  owner.report("b", 5n, 15n, HOLDER_DEAD_MS);
  assert.deepEqual(owner.sweep(HOLDER_DEAD_MS + 1_000), ["a"]);
  assert.deepEqual([owner.spent, owner.available], [85n, 15n]);
  owner.correct(25n);
  assert.equal(owner.available, 75n);
});

test("windows are days and months of UTC, or for ever", () => {
  const at = Date.UTC(2026, 11, 31, 23, 59);
  assert.deepEqual(windowAt("day", at), { id: "2026-12-31", fromMs: Date.UTC(2026, 11, 31), untilMs: Date.UTC(2027, 0, 1) });
  assert.deepEqual(windowAt("month", at), { id: "2026-12", fromMs: Date.UTC(2026, 11, 1), untilMs: Date.UTC(2027, 0, 1) });
  assert.equal(windowAt("total", at).untilMs, Number.POSITIVE_INFINITY);
});
