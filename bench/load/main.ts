import type { LoadOptions } from "./options.ts";
import { runLoad } from "./run-load.ts";

/** A load run in a process of its own: options as JSON in the first argument, the report as one JSON object on stdout. */
const text = process.argv[2];
if (text === undefined) {
  process.stderr.write("usage: node bench/load/main.ts '<LoadOptions as JSON>'\n");
  process.exit(2);
}
const report = await runLoad(JSON.parse(text) as LoadOptions, { phase: (phase) => void process.send?.({ phase }) });
process.stdout.write(`${JSON.stringify(report)}\n`);
process.disconnect?.();
