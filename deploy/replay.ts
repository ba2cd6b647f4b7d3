import { join } from "node:path";
import type { ReplayOptions, ReplayReport, ReplaySide } from "#cli/index.ts";
import { loadConfigFile } from "#libs/config/index.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { createMetrics } from "#libs/telemetry/index.ts";
import { decodePolicy, readBlock, WhatIf, type WhatIfSums } from "#services/policy-engine/index.ts";
import { RECORDS_FOLDER } from "./records.ts";
import { RecordsRing } from "./records-ring.ts";

/** Progress is told after so many decisions. */
const TOLD_EVERY = 5_000;

/** Blocks in a row that are older than the period before reading ends: records are nearly, not wholly, in order. */
const OLD_BLOCKS = 100;

/** Runs the recorded decisions of a data folder through a policy. Throws when the configuration to try does not load. */
export async function replayRecords(options: ReplayOptions, progress: (records: number) => void): Promise<ReplayReport> {
  const ring = new RecordsRing(join(options.dataDir, RECORDS_FOLDER), 0, createMetrics());
  const policies = (name: string): ReturnType<typeof decodePolicy> => {
    const stored = ring.policy(name);
    return stored && decodePolicy(stored);
  };
  const config = options.tryConfig === undefined ? undefined : configOf(options.tryConfig);
  const whatIf = new WhatIf(policies, { config, weights: options.weights, without: new Set(options.without) });
  let read = 0;
  let oldInARow = 0;
  for await (const block of ring.blocks()) {
    let isOld = true;
    for (const record of readBlock(block)) {
      if (record.decision === undefined || record.decidedAtMs >= options.untilMs) continue;
      if (record.decidedAtMs < options.sinceMs) continue;
      isOld = false;
      whatIf.take(record);
      if (++read % TOLD_EVERY === 0) progress(read);
    }
    oldInARow = isOld ? oldInARow + 1 : 0;
    if (read > 0 && oldInARow >= OLD_BLOCKS) break;
  }
  const { report } = whatIf;
  return {
    records: report.records,
    replayed: report.replayed,
    same: report.same,
    left: Object.fromEntries(report.left),
    before: sideOf(report.before),
    after: sideOf(report.after),
    minutes: [...report.minutes]
      .toSorted(([a], [b]) => a - b)
      .map(([minute, [before, after]]) => ({
        at: new Date(minute * 60_000).toISOString(),
        before: sideOf(before),
        after: sideOf(after),
      })),
  };
}

function configOf(file: string): NonNullable<ReturnType<typeof loadConfigFile>["config"]> {
  const { config } = loadConfigFile(file);
  if (config !== undefined) return config;
  throw new SignalboxError("REQUEST_MALFORMED", `${file} does not load: \`signalbox config validate --config ${file}\` says why`);
}

function sideOf(sums: WhatIfSums): ReplaySide {
  const chosen = Math.max(1, sums.decisions - sums.denied);
  return {
    decisions: sums.decisions,
    denied: sums.denied,
    cost_nano_usd: String(sums.costNanoUsd),
    mean_ttft_ms: sums.ttftMs / chosen,
    mean_tpot_ms: sums.tpotMs / chosen,
    backends: Object.fromEntries(sums.backends),
    arms: Object.fromEntries(sums.arms),
  };
}
