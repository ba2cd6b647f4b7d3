export { DESK_PERIOD_MS, ExperimentDesk } from "./desk.ts";
export type { ObservationRow } from "./source-rows.ts";
