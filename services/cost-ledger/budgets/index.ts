export { BudgetLease, type LeaseReport } from "./lease.ts";
export { BudgetOwner, HOLDER_DEAD_MS, type Grant } from "./owner.ts";
export { windowAt, type BudgetPeriod, type BudgetWindow } from "./windows.ts";
