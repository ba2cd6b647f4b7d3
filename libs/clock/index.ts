export type { Clock, Random, Timer } from "./clock.ts";
export { systemClock, systemRandom } from "./system.ts";
export { type LoopLag, noLag, watchLoopLag } from "./loop-lag.ts";
export { createUuidV7 } from "./uuid.ts";
export { StallWatch } from "./stall-watch.ts";
