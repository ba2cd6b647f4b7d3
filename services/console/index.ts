export type { ConsoleDeps, FaultPort, ReloadResult } from "./deps.ts";
export { type ConsoleHost, createConsole } from "./module.ts";
