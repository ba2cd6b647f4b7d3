import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Deadline } from "./deadline.ts";
import { FIRST_FAILOVER_COST, RETRY_COST, RetryBudget } from "./retry-budget.ts";

const OPTIONS = { ratio: 0.1, minPerS: 3 };

test("a fresh budget is full: a hundred retries or five hundred first failovers", () => {
  const budget = new RetryBudget(OPTIONS, 0);
  for (let count = 0; count < 100; count++) assert.ok(budget.withdraw(RETRY_COST, 0));
  assert.ok(!budget.withdraw(FIRST_FAILOVER_COST, 0));
  assert.ok(!budget.withdraw(RETRY_COST, 300));
  assert.ok(budget.withdraw(RETRY_COST, 334), "three a second whatever the traffic");
});

test("steady traffic earns a tenth of it as retries", () => {
  const budget = new RetryBudget({ ratio: 0.1, minPerS: 0 }, 0);
  while (budget.withdraw(RETRY_COST, 0));
  let retries = 0;
  for (let count = 0; count < 1_000; count++) {
    budget.deposit(count);
    if (budget.withdraw(RETRY_COST, count)) retries++;
  }
  assert.ok(retries >= 99 && retries <= 100, String(retries));
});

test("deposits older than ten seconds no longer widen it", () => {
  const budget = new RetryBudget(OPTIONS, 0);
  for (let count = 0; count < 10_000; count++) budget.deposit(count / 2);
  assert.ok(budget.available(5_000) > 1_000);
  assert.ok(budget.available(16_000) <= 1_030, "still full while nobody spends");
  while (budget.withdraw(RETRY_COST, 16_000));
  assert.ok(budget.available(1_000_000) <= 100);
});

test("whatever happens, retries never exceed what was there plus what was earned", () => {
  const step = fc.record({ kind: fc.constantFrom("deposit", "retry", "failover"), waitMs: fc.integer({ min: 0, max: 400 }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const budget = new RetryBudget(OPTIONS, 0);
      let nowMs = 0;
      let earned = 100;
      let spent = 0;
      for (const { kind, waitMs } of steps) {
        nowMs += waitMs;
        earned += (waitMs / 1000) * OPTIONS.minPerS;
        if (kind === "deposit") {
          budget.deposit(nowMs);
          earned += OPTIONS.ratio;
        } else {
          const cost = kind === "retry" ? RETRY_COST : FIRST_FAILOVER_COST;
          const before = budget.available(nowMs);
          assert.equal(budget.withdraw(cost, nowMs), before >= cost);
          if (before >= cost) spent += cost;
        }
        assert.ok(spent <= earned + 1e-6);
        assert.ok(budget.available(nowMs) >= -1e-9);
      }
    }),
  );
});

test("a deadline counts down, never below zero, and none never comes", () => {
  const deadline = Deadline.after(1_000, 500);
  assert.equal(deadline.remainingMs(1_200), 300);
  assert.equal(deadline.remainingMs(9_000), 0);
  assert.equal(deadline.cap(1_000, 1_200), 300);
  assert.ok(deadline.isOver(1_500) && !deadline.isOver(1_499));
  assert.equal(Deadline.after(1_000, 0), Deadline.none);
  assert.equal(Deadline.none.cap(7, 1e12), 7);
  assert.equal(deadline.earlier(Deadline.none), deadline);
});

test("new rates hold from now on, and what was earned stays", () => {
  const budget = new RetryBudget({ ratio: 0, minPerS: 0 }, 0);
  budget.configure({ ratio: 1, minPerS: 0 });
  while (budget.withdraw(RETRY_COST, 0));
  budget.deposit(0);
  assert.ok(budget.withdraw(RETRY_COST, 0));
});
