export { MicroBatches, type MicroBatchDeps } from "./micro-batches.ts";
