import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RecordKind } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { systemClock } from "#libs/clock/index.ts";
import { createNodeFiles, openOutbox, type Outbox } from "#libs/outbox/index.ts";
import { sampleRecord } from "#libs/outbox/sample-record.ts";
import { gauge, line } from "./gauge.ts";

/** An attempt's two records, intent and settlement, written with so many attempts in a tick. */
const ATTEMPTS = 8_000;

/** Enough that no run fills it. */
const MAX_BYTES = 4 * 1024 ** 3;

async function measure(perTick: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "signalbox-outbox-"));
  const outbox = openOutbox({
    id: `bench-${perTick}`,
    files: createNodeFiles(folder),
    clock: systemClock,
    durability: "overlapped",
    maxBytes: MAX_BYTES,
    onFull: "block",
  });
  let id = 0;
  const run = async (): Promise<void> => {
    for (let done = 0; done < ATTEMPTS; done += perTick) {
      for (let count = 0; count < perTick; count++) {
        const attempt = `0192a5d3-7c1e-7abc-8def-${String(id++).padStart(12, "0")}`;
        outbox.append(sampleRecord(RecordKind.INTENT, attempt));
        outbox.append(sampleRecord(RecordKind.POST, attempt));
      }
      await written(outbox);
    }
    outbox.commit(outbox.lastBooked);
  };
  line(`outbox: intent + settlement, ${perTick} attempts a tick`, await gauge(ATTEMPTS, run), "an attempt");
  await outbox.close();
  rmSync(folder, { recursive: true, force: true });
}

function written(outbox: Outbox): Promise<void> {
  return new Promise((resolve, reject) => outbox.whenWritten((error) => (error === undefined ? resolve() : reject(error))));
}

for (const perTick of [1, 16, 64]) await measure(perTick);
