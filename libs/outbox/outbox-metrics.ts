import type { Metrics } from "#libs/telemetry/index.ts";
import type { Outbox } from "./outbox.ts";

/** Declares the outbox's gauges; they are read at each scrape. */
export function watchOutbox(outbox: Outbox, metrics: Metrics): void {
  const disk = metrics.gauge("signalbox_outbox_disk_bytes", "Bytes of records not yet trimmed.").with();
  const memory = metrics.gauge("signalbox_outbox_memory_bytes", "Bytes of records that wait for the disk.").with();
  const open = metrics.gauge("signalbox_outbox_open_intents", "Attempts that may cost money and have not ended.").with();
  const behind = metrics.gauge("signalbox_outbox_uncommitted_records", "Sequences between the last booked record and the ledger.").with();
  const accepting = metrics.gauge("signalbox_outbox_accepting", "1 while new attempts may start.").with();
  const errors = metrics.gauge("signalbox_outbox_disk_errors", "Writes and syncs the disk refused since the start.").with();
  metrics.onScrape(() => {
    const stats = outbox.stats;
    disk.set(stats.diskBytes);
    memory.set(stats.memoryBytes);
    open.set(stats.openIntents);
    behind.set(outbox.lastBooked - outbox.committed > 0 ? outbox.lastBooked - outbox.committed : 0);
    accepting.set(outbox.accepting ? 1 : 0);
    errors.set(stats.writeErrors + stats.syncErrors);
  });
}
