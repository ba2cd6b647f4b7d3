import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock } from "#libs/clock/fake.ts";
import { createConfigSource } from "#libs/config/index.ts";
import { RETRY_COST } from "#libs/resilience/index.ts";
import { RetryBudgets } from "./dispatch-deps.ts";
import { testConfig } from "./testing.ts";

test("fault: after a reload the retry budgets that were there kept their old rates", () => {
  const before = testConfig();
  const retry = (budget: number): typeof before => ({ ...before, resilience: { ...before.resilience, retry: { budget, minPerS: 0 } } });
  const source = createConfigSource(retry(0));
  const budgets = new RetryBudgets(source, new FakeClock());
  while (budgets.of("chat").withdraw(RETRY_COST, 0));
  budgets.of("chat").deposit(0);
  assert.ok(!budgets.of("chat").withdraw(RETRY_COST, 0));
  source.swap(retry(1));
  budgets.of("chat").deposit(0);
  assert.ok(budgets.of("chat").withdraw(RETRY_COST, 0));
});
