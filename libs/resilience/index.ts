export { Deadline } from "./deadline.ts";
export { FIRST_FAILOVER_COST, RETRY_COST, RetryBudget, type RetryBudgetOptions } from "./retry-budget.ts";
export { CircuitBreaker, type BreakerEvent, type BreakerOptions, type BreakerState, type BreakerTransition } from "./breaker.ts";
export { ConcurrencyLimit, type ConcurrencyLimitOptions } from "./limit.ts";
