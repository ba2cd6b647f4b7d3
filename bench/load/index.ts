export { runLoadInChild } from "./child.ts";
export { Histogram, type Percentiles } from "./histogram.ts";
export { chatBody, type ChatShape, type LoadOptions, type Pace } from "./options.ts";
export { type LoadReport } from "./report.ts";
export { type LoadWatcher, type Phase, runLoad } from "./run-load.ts";
