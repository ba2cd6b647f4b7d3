import { setTimeout as sleep } from "node:timers/promises";
import { mkdirSync } from "node:fs";
import { RecordKind } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { EventBus } from "#libs/bus/index.ts";
import { systemClock } from "#libs/clock/index.ts";
import { createNodeFiles, createShipper, openOutbox } from "#libs/outbox/index.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import type { Traffic } from "./traffic.ts";

/** Attempts of one turn of the event loop: what a busy ingress settles in some milliseconds. */
const PER_TURN = 100;
/** Attempts appended and not yet committed: beyond it the sender waits, so that the ledger's speed is measured and not the disk's size. */
const AHEAD_MAX = 60_000;
const OUTBOX_MAX_BYTES = 4 * 1024 ** 3;
/** Windows the sustained speed is judged by, s. */
const WINDOW_S = 10;

/** What to send and where. */
export interface IngestOptions {
  readonly bus: EventBus;
  /** Folder of the outbox. */
  readonly folder: string;
  readonly traffic: Traffic;
  readonly entries: number;
  readonly say: (text: string) => void;
}

/** What came of it. */
export interface IngestReport {
  readonly entries: number;
  /** From the first append to the last commit, ms. */
  readonly tookMs: number;
  readonly windowS: number;
  /** Whole windows between the first and the last. */
  readonly windows: number;
  /** The slowest whole window, entries a second; the mean where there is none. */
  readonly slowestPerS: number;
}

/** Settles attempts through an outbox (intent and settlement, written and fsynced as in operation) and waits until the ledger has committed them all. */
export async function ingest(options: IngestOptions): Promise<IngestReport> {
  const { bus, traffic, entries, say } = options;
  mkdirSync(options.folder, { recursive: true });
  const outbox = openOutbox({
    id: `bench-${process.pid}`,
    files: createNodeFiles(options.folder),
    clock: systemClock,
    durability: "overlapped",
    maxBytes: OUTBOX_MAX_BYTES,
    onFull: "block",
  });
  const shipper = createShipper({ outbox, bus, clock: systemClock, logger: silentLogger });
  while (!bus.connected) await sleep(20);
  // The outbox's and the store's own timers keep no process alive.
  const alive = setInterval(() => {}, 60_000);
  const startMs = performance.now();
  const speeds: number[] = [];
  let windowAt = startMs;
  let windowCommitted = 0;
  // Each attempt is two records, and only its second one is booked.
  const committed = (): number => Math.floor(outbox.committed / 2);
  const look = (): void => {
    const now = performance.now();
    if (now - windowAt < WINDOW_S * 1000) return;
    const done = committed();
    speeds.push((done - windowCommitted) / ((now - windowAt) / 1000));
    say(`${((now - startMs) / 1000).toFixed(0).padStart(5)} s: ${done} entries, ${Math.round(speeds.at(-1)!)} entries/s`);
    windowAt = now;
    windowCommitted = done;
  };
  for (let sent = 0; sent < entries;) {
    for (let turn = 0; turn < PER_TURN && sent < entries; turn++, sent++) {
      const settled = traffic.next();
      outbox.append({ ...settled, kind: RecordKind.INTENT });
      outbox.append(settled);
    }
    await new Promise<void>((resolve, reject) => outbox.beforeAnswer((error) => (error === undefined ? resolve() : reject(error))));
    while (sent - committed() > AHEAD_MAX) {
      await sleep(5);
      look();
    }
    look();
  }
  while (shipper.pending) {
    await sleep(5);
    look();
  }
  const tookMs = performance.now() - startMs;
  clearInterval(alive);
  shipper.stop();
  await outbox.close();
  const mean = entries / (tookMs / 1000);
  return { entries, tookMs, windowS: WINDOW_S, windows: speeds.length, slowestPerS: speeds.length > 0 ? Math.min(...speeds) : mean };
}
