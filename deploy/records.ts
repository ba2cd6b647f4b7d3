import { join } from "node:path";
import type { ServiceModule } from "#libs/lifecycle/index.ts";
import { StoredRecords } from "#services/policy-engine/index.ts";
import type { ProcessContext } from "./context.ts";
import { RecordsRing } from "./records-ring.ts";

/** Folder of the decision records, in the data folder. */
export const RECORDS_FOLDER = "decisions";

/**
 * Decision records on disk, as `telemetry.decisions` says; undefined when it keeps none: then the last ones stay in memory.
 * The part stops after the engine, so that the last decisions are written too.
 */
export function openRecords(context: ProcessContext): { readonly records: StoredRecords; readonly module: ServiceModule } | undefined {
  const { share, maxBytes } = context.config.current.telemetry.decisions;
  if (share === 0 || maxBytes === 0) return undefined;
  const ring = new RecordsRing(join(context.dataDir, RECORDS_FOLDER), maxBytes, context.metrics);
  const records = new StoredRecords(ring, context.clock);
  const module: ServiceModule = {
    name: "decision-records",
    start: () => Promise.resolve(),
    drain: () => Promise.resolve(),
    stop: async () => {
      records.close();
      await ring.close();
    },
    checks: [],
  };
  return { records, module };
}
