import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { LoadOptions } from "./options.ts";
import type { LoadReport } from "./report.ts";
import type { Phase } from "./run-load.ts";

const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));

/** Runs a load in a process of its own, so that the caller's event loop does not disturb it. `wrap` goes before the command: `taskset -c 1`. */
export function runLoadInChild(options: LoadOptions, wrap: readonly string[], onPhase: (phase: Phase) => void): Promise<LoadReport> {
  const [command, ...args] = [...wrap, process.execPath, MAIN, JSON.stringify(options)];
  const child = spawn(command!, args, { stdio: ["ignore", "pipe", "inherit", "ipc"] });
  child.on("message", (message) => onPhase((message as { phase: Phase }).phase));
  let output = "";
  child.stdout!.setEncoding("utf8").on("data", (text: string) => (output += text));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      if (code === 0) resolve(JSON.parse(output) as LoadReport);
      else reject(new Error(`the load generator ended with ${code}`));
    });
  });
}
