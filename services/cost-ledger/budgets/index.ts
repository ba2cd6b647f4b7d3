export { BudgetDesk, type BudgetDeskDeps } from "./desk.ts";
export { BudgetOwner, HOLDER_DEAD_MS, HOLDER_SILENT_MS, type Ask, type Granted } from "./owner.ts";
