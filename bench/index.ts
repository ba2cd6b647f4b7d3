export { runLoad, runLoadInChild, type LoadOptions, type LoadReport } from "./load/index.ts";
export { benchReport, benchTable, runBench, type BenchOptions, type BenchReport } from "./verb.ts";
