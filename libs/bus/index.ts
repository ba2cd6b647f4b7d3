export type { BusMessage, EventBus, KeyValue, KeyValueOptions, Subscription } from "./bus.ts";
export { createMemoryBus, type MemoryBusDeps } from "./memory-bus.ts";
export { openNatsBus, type NatsBusDeps } from "./open.ts";
export { SUBJECTS, subjectOf } from "./subjects.ts";
export { BUS_UNAVAILABLE } from "./unavailable.ts";
